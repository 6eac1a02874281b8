"""What the cases are played at, and the question after each of them: is everybody else still well served?

Law: a case takes `pooler`, which stays up from case to case, or starts its own
by `launch`; both are watched by the oracle of tests/support/alive.py. After a
case that failed the next one meets a new process.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping

import pytest

from tests.conformance import direct
from tests.conformance.marks import NO_SENSE
from tests.integration.conftest import Launch
from tests.support import standard
from tests.support.alive import stays_alive
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler, Sections, Settings, StartFailed
from tests.support.server import Server

Build = Callable[[], Pooler]

_SPOILED = pytest.StashKey[bool]()


class Stable:
    """Poolers that stay up between cases, by name."""

    def __init__(self) -> None:
        self._running: dict[str, Pooler] = {}

    def get(self, name: str, build: Build) -> Pooler:
        if name not in self._running:
            pooler = build()
            try:
                self._running[name] = pooler.start()
            except StartFailed:
                pooler.stop()
                raise
        return self._running[name]

    def close(self) -> None:
        """Ends them all."""
        with contextlib.ExitStack() as stack:
            while self._running:
                stack.callback(self._running.popitem()[1].stop)


@pytest.fixture(scope="package")
def stable() -> Iterator[Stable]:
    """Not of the session: whoever counts backends afterwards would find those of its idle servers."""
    stable = Stable()
    yield stable
    stable.close()


@pytest.fixture
def pooler(stable: Stable, server: Server) -> Pooler:
    """The one thing under test with the standard databases; a module may define its own."""
    if standard.KIND == direct.KIND:
        return stable.get("standard", lambda: direct.Direct(server))
    return stable.get("standard", lambda: standard.build(standard.databases(server), user=server.user))


@pytest.fixture
def clean_slate(request: pytest.FixtureRequest, stable: Stable, server: Server) -> None:
    """What a failed case leaves behind, here and in PostgreSQL, is not the next one's fault."""
    if request.session.stash.get(_SPOILED, False):
        request.session.stash[_SPOILED] = False
        with contextlib.suppress(AssertionError):
            stable.close()
        server.sql("select pg_terminate_backend(pid) from unnest(%s::int[]) pid", [server.backends()])
        wait_until(lambda: not server.backends(), 10, "all backends have ended")


@pytest.fixture(autouse=True)
def alive(request: pytest.FixtureRequest, clean_slate: None, server: Server) -> Iterator[None]:
    """After the case everybody else must still be well served."""
    if "pooler" not in request.fixturenames:
        assert "launch" in request.fixturenames, "a case takes `pooler` or `launch`, else nobody watches it"
        yield
        return
    pooler = request.getfixturevalue("pooler")
    assert isinstance(pooler, Pooler)
    with stays_alive(pooler, server.busy_backends):
        yield


@pytest.fixture
def launch(server: Server) -> Iterator[Launch]:
    """Starts poolers for one case, with an entry for the oracle's bystander among their databases."""
    if standard.KIND == direct.KIND:
        pytest.skip(NO_SENSE + "PostgreSQL has nothing to launch")
    with contextlib.ExitStack() as stack:

        def launch(
            databases: Sections | None = None,
            settings: Settings | None = None,
            users: Sections | None = None,
            secrets: Mapping[str, str] | None = None,
            *,
            user: str | None = None,
        ) -> Pooler:
            entries = databases or standard.databases(server)
            pooler = standard.build(entries, settings, users, secrets, user=user or server.user)
            stack.enter_context(pooler)
            stack.enter_context(stays_alive(pooler, server.busy_backends))
            return pooler

        yield launch


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed or hasattr(report, "wasxfail"):
        item.session.stash[_SPOILED] = True
    return report
