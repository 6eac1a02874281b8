"""Strangers at the door who do not behave: whatever they do before they are in concerns nobody else."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, databases, howdah_only
from tests.support.wire import Raw

pytestmark = pytest.mark.usefixtures("alive")


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Iterator[Pooler]:
    """Asks its rules about everybody."""
    with TemporaryDirectory(prefix="howdah-door-") as name:
        Path(name).chmod(0o755)
        rules = Path(name) / "hba"
        rules.write_text("host all all 127.0.0.1/32 trust\nhost all all somewhere.invalid trust\n")
        yield module_launch(databases(server), {"auth_type": "hba", "auth_hba_file": str(rules)})


@contextmanager
def standing_still(pooler: Pooler) -> Iterator[None]:
    """The pooler accepts nobody meanwhile; the kernel does."""
    pooler.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        pooler.signal(signal.SIGCONT)


@howdah_only("it is Howdah's log that must not show a traceback, or an address that is not true")
def test_a_client_that_was_gone_before_it_was_accepted_is_asked_for_nothing(pooler: Pooler) -> None:
    mark = pooler.log_mark()
    with standing_still(pooler):
        for _ in range(10):
            stranger = Raw(pooler.host, pooler.port)
            stranger.send(m.startup({"user": pooler.user, "database": APP}))
            stranger.reset()
    pooler.wait_for_log(r"closing because: client unexpected eof", since=mark)
    assert "internal error" not in pooler.log(mark)
    assert "@unix" not in pooler.log(mark)
