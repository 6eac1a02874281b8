"""What clients that do nothing cost, and that they do not stand in the way of those that do something."""

import resource
import threading
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, howdah_only
from tests.support.wire import Raw

pytestmark = [howdah_only("the bars are ours"), pytest.mark.usefixtures("started_anew")]

KIB, MIB = 1024, 1024 * 1024
IDLE = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1_000)
"""As many as the bar asks for; fewer only where the machine allows no more descriptors."""
BATCH = 250


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """The test, too, has a socket for each client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def roomy(module_launch: Launch, server: Server) -> Pooler:
    return module_launch(settings={"max_client_conn": IDLE + 500})


def idle_clients(pooler: Pooler, count: int) -> Iterator[Raw]:
    """Logs so many clients in, a batch at a time, so that the waiting is shared."""
    for start in range(0, count, BATCH):
        batch = [pooler.socket() for _ in range(min(BATCH, count - start))]
        for client in batch:
            client.send(m.startup({"user": pooler.user, "database": APP}))
        for client in batch:
            client.finish_login()
            yield client


def busy(pooler: Pooler, count: int, rounds: int) -> list[str]:
    """So many clients ask so often at once; what went wrong."""
    problems: list[str] = []

    def work(number: int) -> None:
        try:
            with pooler.raw(APP) as client:
                for step in range(rounds):
                    assert client.value(f"select '{number}.{step}'") == f"{number}.{step}"
        except Exception as problem:
            problems.append(repr(problem))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return problems


def test_a_pooler_without_clients_is_small(roomy: Pooler) -> None:
    assert roomy.rss() < 60 * MIB


@pytest.mark.slow
def test_idle_clients_cost_little_and_disturb_nobody(roomy: Pooler) -> None:
    assert busy(roomy, 50, 5) == []
    before = roomy.rss()
    clients: list[Raw] = []
    try:
        clients.extend(idle_clients(roomy, IDLE))
        each = (roomy.rss() - before) / IDLE
        assert each < 8 * KIB
        assert busy(roomy, 200, 5) == []
        assert clients[0].value("select 'first'") == "first"
        assert clients[-1].value("select 'last'") == "last"
    finally:
        for client in clients:
            client.close()


def test_memory_comes_back_when_they_leave(roomy: Pooler) -> None:
    """Twice as many logins as before leave hardly more behind."""
    assert busy(roomy, 200, 2) == []
    before = roomy.rss()
    for _ in range(5):
        assert busy(roomy, 200, 2) == []
    assert roomy.rss() - before < 4 * MIB
