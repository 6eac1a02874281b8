"""Fixtures of the black-box tests: the real server, the pooler under test, and the oracle.

Law: a module shares one pooler; what a test changes it changes back. A pooler's
log is printed when one of its tests fails.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.support import standard
from tests.support.alive import stays_alive
from tests.support.pooler import ADMIN, CONSOLE, Pooler, Sections, Settings
from tests.support.postgres import PostgresServer
from tests.support.script import FakeServer
from tests.support.server import Server
from tests.support.wire import Raw

Launch = Callable[..., Pooler]

FAKE = "fake"


@pytest.fixture(scope="session")
def server(postgres: PostgresServer) -> Iterator[Server]:
    """The PostgreSQL that stands behind the poolers, with a database of its own."""
    server = Server(postgres, postgres.new_database())
    yield server
    server.close()


def _launcher(server: Server) -> Iterator[Launch]:
    with ExitStack() as stack:

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
            return stack.enter_context(pooler)

        yield launch


@pytest.fixture
def launch(server: Server) -> Iterator[Launch]:
    """Starts poolers that live as long as the test."""
    yield from _launcher(server)


@pytest.fixture(scope="module")
def module_launch(server: Server) -> Iterator[Launch]:
    """Starts poolers that live as long as the module's tests."""
    yield from _launcher(server)


@pytest.fixture(scope="module")
def pooler(module_launch: Launch) -> Pooler:
    """The module's pooler with the standard databases; a module may define its own."""
    return module_launch()


@pytest.fixture(scope="module")
def started_anew() -> Iterator[None]:
    """For a module that looks at the process itself: its poolers are started as users start theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pooler, "may_fork", False)
        yield


@pytest.fixture
def alive(pooler: Pooler, server: Server) -> Iterator[None]:
    """After the test everybody else must still be well served."""
    with stays_alive(pooler, server.busy_backends):
        yield


@pytest.fixture
def console(pooler: Pooler) -> Iterator[Raw]:
    """An admin who is logged in at the module's pooler."""
    with pooler.raw(CONSOLE, ADMIN) as client:
        yield client


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server that plays scripts; at first it lets everybody in and echoes queries."""
    with FakeServer() as fake:
        yield fake


def before_fake(launch: Launch, fake: FakeServer, **settings: str | float) -> Pooler:
    """A pooler whose database FAKE leads to the fake server."""
    entries = {FAKE: {"host": fake.host, "port": fake.port, "pool_size": 20}}
    return launch(entries, settings, user="u")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            if isinstance(value, Pooler) and value.log_path.exists():
                report.sections.append((f"log of {value.kind} on port {value.port}", value.log_tail(80)))
    return report
