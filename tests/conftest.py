"""What every test may use: PostgreSQL servers, both event loops, logs on failure, and no skip unseen."""

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop

from tests.support.certificates import Pki, new_pki
from tests.support.choose_postgres import VARIABLE, Chooser, Unavailable
from tests.support.postgres import PostgresServer, started
from tests.support.secure_postgres import newer, secure_postgres
from tests.support.skips import EXPECTED, Skip, unexpected

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_BYTECODE = Path(__file__).parents[1] / ".pytest_cache" / "bytecode"
_LONGEST = ("tests/test_compiled.py", "tests/test_deploy.py")
"""Files that wait for a C compiler: begun first, so that none of several processes is alone at the end."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The usual PostgreSQL of the tests: the embedded 18 unless HOWDAH_TEST_PG says otherwise."""
    yield from _server()


@pytest.fixture(scope="session")
def postgres16() -> Iterator[PostgresServer]:
    """PostgreSQL 16: before the changes of 17 and 18 to the protocol."""
    yield from _server(16)


@pytest.fixture(scope="session")
def postgres15() -> Iterator[PostgresServer]:
    """A PostgreSQL with contrib extensions and built with TLS: the system's, 15 on Debian 12."""
    yield from _server(15, contrib_and_tls=True)


@pytest.fixture(scope="session")
def pki() -> Iterator[Pki]:
    """An authority, and a folder for certificates that it signs."""
    with new_pki() as pki:
        yield pki


@pytest.fixture(scope="session")
def tls_postgres(pki: Pki) -> Iterator[PostgresServer]:
    """A PostgreSQL of the system with TLS on; roles as in tests.support.secure_postgres."""
    with secure_postgres(pki) as server:
        yield server


@pytest.fixture(scope="session")
def tls_postgres17(pki: Pki) -> Iterator[PostgresServer]:
    """PostgreSQL 17 with TLS on, which knows direct TLS."""
    with secure_postgres(pki, binaries=newer()) as server:
        yield server


@pytest.fixture(params=["postgres", "postgres16", "postgres15"])
def any_postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """Each of the three in turn."""
    server = request.getfixturevalue(request.param)
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture
def new_postgres(postgres: PostgresServer) -> Iterator[Callable[..., PostgresServer]]:
    """Starts servers for one test alone, which may stop, kill and reconfigure them (options of `started`)."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(started(postgres.own.binaries, **options))


def _server(version: int | None = None, *, contrib_and_tls: bool = False) -> Iterator[PostgresServer]:
    chooser = Chooser(os.environ.get(VARIABLE))
    try:
        starter = chooser.choose(version, contrib_and_tls=contrib_and_tls)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with starter() as server:
        yield server


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Async tests run on uvloop, those marked both_loops on plain asyncio as well."""
    factories: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop}
    if item.get_closest_marker("both_loops"):
        factories["asyncio"] = asyncio.new_event_loop
    return factories


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Print the end of the log of every PostgreSQL that a failed test used."""
    report = yield
    if report.failed:
        for name, server in getattr(item, "funcargs", {}).items():
            if isinstance(server, PostgresServer) and server.log():
                report.sections.append((f"log of {name} (PostgreSQL {server.version})", server.log_tail()))
    return report


class SkipWatch:
    """Collects the skips of a run and fails it for those that expected_skips.txt does not list."""

    def __init__(self) -> None:
        self.skips: list[Skip] = []
        self.surprises: list[Skip] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if os.environ.get("HOWDAH_TEST_POOLER", "howdah") != "howdah":
            return  # played at another pooler, the skips name what that one does differently
        self.surprises = unexpected(self.skips, EXPECTED.read_text())
        if self.surprises and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.surprises:
            terminalreporter.section(f"skips that {EXPECTED.name} does not list", red=True)
            for skip in self.surprises:
                terminalreporter.line(str(skip))

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
            self.skips.append(Skip(report.nodeid, report.longrepr[2].removeprefix("Skipped: ")))


def pytest_configure(config: pytest.Config) -> None:
    if sys.dont_write_bytecode:
        _keep_bytecode()
    if not hasattr(config, "workerinput"):  # of several processes the first one sees all skips
        config.pluginmanager.register(SkipWatch(), "skip-watch")


def _keep_bytecode() -> None:
    """Elsewhere than beside the sources; else each of the hundreds of daemons would compile them anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(_BYTECODE)
    sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; within a file nothing changes."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))
