"""The databases most integration tests share, and the choice of the pooler under test.

Law: one process serves all pool modes, by entries of `[databases]` with their
own sizes and modes, so that a module needs to start one pooler only. With
HOWDAH_TEST_POOLER=pgbouncer the same tests are played at PgBouncer.
"""

import os
from collections.abc import Mapping

import pytest

from tests.support.alive import BYSTANDER
from tests.support.pooler import PgBouncer, Pooler, Sections, Settings, Value
from tests.support.target import Target

APP = "app"
"""Transaction mode, eight servers."""
ONE = "one"
"""Transaction mode, a single server: two clients must share it."""
SESSION = "session"
SESSION_ONE = "session_one"
STATEMENT = "statement"

KINDS: Mapping[str, type[Pooler]] = {"howdah": Pooler, "pgbouncer": PgBouncer}
KIND = os.environ.get("HOWDAH_TEST_POOLER", "howdah")


def howdah_only(reason: str) -> pytest.MarkDecorator:
    """For what other poolers do differently or not at all."""
    return pytest.mark.skipif(KIND != "howdah", reason=reason)


def one_process(reason: str) -> pytest.MarkDecorator:
    """For what is true of each worker, and not of several together (HOWDAH_TEST_WORKERS)."""
    several = os.environ.get("HOWDAH_TEST_WORKERS", "1") != "1"
    return pytest.mark.skipif(several, reason=f"only in one process: {reason}")


def entry(server: Target, **more: Value) -> Settings:
    """A `[databases]` entry that leads to this server as its own user."""
    return {"host": server.host, "port": server.port, "dbname": server.database, **more}


def databases(server: Target, **more: Value) -> Sections:
    return {
        APP: entry(server, pool_size=8, **more),
        ONE: entry(server, pool_size=1, **more),
        SESSION: entry(server, pool_size=8, pool_mode="session", **more),
        SESSION_ONE: entry(server, pool_size=1, pool_mode="session", **more),
        STATEMENT: entry(server, pool_size=2, pool_mode="statement", **more),
        BYSTANDER: entry(server, pool_size=2, **more),
    }


def build(
    entries: Sections,
    settings: Settings | None = None,
    users: Sections | None = None,
    secrets: Mapping[str, str] | None = None,
    *,
    user: str,
) -> Pooler:
    """A pooler of the kind under test, not started yet."""
    return KINDS[KIND](entries, settings, users, secrets, user=user)
