"""Several workers are one pooler: clients are shared among them, and it starts and ends as one."""

from contextlib import ExitStack, closing

import psycopg
import pytest

from tests.integration.conftest import Launch
from tests.support.crowd import Crowd, until
from tests.support.pooler import Pooler
from tests.support.standard import APP, howdah_only

pytestmark = howdah_only("only Howdah has workers")


@pytest.fixture(scope="module")
def pooler(module_launch: Launch) -> Pooler:
    return module_launch(settings={"workers": 4})


@pytest.fixture
def crowd(pooler: Pooler) -> Crowd:
    crowd = Crowd(pooler)
    crowd.wait_for_workers(4)
    return crowd


def connect(pooler: Pooler, database: str = APP) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(pooler.conninfo(database), autocommit=True)


def value(connection: "psycopg.Connection[tuple[object, ...]]", sql: str) -> object:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return row[0]


def test_64_clients_on_4_workers_are_16_each(pooler: Pooler, crowd: Crowd) -> None:
    with ExitStack() as stack:
        for number in range(64):
            client = stack.enter_context(closing(connect(pooler)))
            assert value(client, f"select {number}") == number
        until(lambda: sorted(crowd.clients().values()) == [16] * 4, f"{crowd.clients()}")


def test_places_of_clients_that_leave_are_taken_by_newcomers(pooler: Pooler, crowd: Crowd) -> None:
    with ExitStack() as stack:
        clients = [connect(pooler) for _ in range(24)]
        for client in clients:
            stack.callback(client.close)
        gone = crowd.worker_of(clients[0])
        for client in clients:
            if crowd.worker_of(client) == gone:
                client.close()
        until(lambda: crowd.clients()[gone] == 0, "its clients are still there")
        until(lambda: shared_evenly(pooler, crowd, gone), f"{crowd.clients()}")


def shared_evenly(pooler: Pooler, crowd: Crowd, empty: int) -> bool:
    """Whether six newcomers go to the worker that has nobody."""
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(closing(connect(pooler)))
        return crowd.clients()[empty] == 6
