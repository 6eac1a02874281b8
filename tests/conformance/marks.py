"""What a case says of the things it may be played at.

Law: `pytest.mark.case("O31")` names the case of tests/bad_input.md; a mark of
this file never hides a result of Howdah: what it lacks is a strict xfail, so
that the day it has it is noticed.
"""

import pytest

from tests.conformance import direct
from tests.support.standard import KIND

NO_SENSE = "makes no sense: "
"""How the reason of a skip begins that the table prints as `-`."""
MISSING = "missing: "


def pooler_only(reason: str) -> pytest.MarkDecorator:
    """PostgreSQL itself has nothing that could pass or fail here."""
    return pytest.mark.skipif(KIND == direct.KIND, reason=NO_SENSE + reason)


def missing(capability: str) -> pytest.MarkDecorator:
    """Howdah cannot do it yet."""
    return pytest.mark.xfail(KIND == "howdah", reason=MISSING + capability, strict=True)


def pgbouncer_fails(reason: str) -> pytest.MarkDecorator:
    """Some version of PgBouncer is known not to pass, and why."""
    return pytest.mark.xfail(KIND == "pgbouncer", reason=reason, strict=False)
