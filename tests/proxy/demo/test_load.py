"""The load: what clients do, what is counted, and that it ends."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from protocol.messages import Message
from proxy.demo.load import ROWS, SCHEMA, Interval, Load, Plan, percentile
from tests.proxy.demo.fake_server import GREETING, FakeServer, done, error, fake_server

REFUSAL = error("FATAL", "53300", "sorry, too many clients already")


async def test_every_transaction_is_begun_and_committed_in_order() -> None:
    async with fake_server() as server:
        load = Load(server.address(), Plan(clients=1, think=0), chance=random.Random(1))
        await load.start()
        await server.heard(9)
        await load.stop()
    whole = [server.queries[at : at + 3] for at in range(0, 9, 3)]
    for begin, update, commit in whole:
        assert begin == "BEGIN"
        assert update.startswith("UPDATE account SET balance = balance + 1 WHERE id = ")
        assert 1 <= int(update.rsplit(" ", 1)[1]) <= ROWS
        assert commit == "COMMIT"


async def test_clients_that_are_refused_are_counted_with_the_words_of_the_server() -> None:
    async with fake_server() as server:
        server.greet = lambda number: GREETING if number <= 3 else [REFUSAL]
        load = Load(server.address(), Plan(clients=10, think=0))
        await load.start()
        assert (load.connected, load.refused) == (3, 7)
        assert load.refusals == {"FATAL: sorry, too many clients already": 7}
        await load.stop()
        assert load.connected == 0


async def test_nobody_listening_refuses_every_client() -> None:
    async with fake_server() as server:
        address = server.address()
    load = Load(address, Plan(clients=2))
    await load.start()
    assert (load.connected, load.refused) == (0, 2)
    await load.stop()


async def test_a_client_that_fails_is_counted_once_and_leaves_the_others_alone() -> None:
    async with fake_server() as server:
        failed: list[str] = []

        def answer(query: str) -> Sequence[Message]:
            if query == "COMMIT" and not failed:
                failed.append(query)
                return [error("ERROR", "40001", "could not serialize"), GREETING[1]]
            return done()

        server.answer = answer
        load = Load(server.address(), Plan(clients=2, think=0))
        await load.start()
        await server.heard(30)
        assert load.failures == {"ERROR: could not serialize": 1}
        assert load.connected == 1
        await load.stop()


async def test_stopping_ends_transactions_before_it_hangs_up() -> None:
    async with fake_server() as server:
        load = Load(server.address(), Plan(clients=5, think=0))
        await load.start()
        await server.heard(60)
        await load.stop()
        assert server.queries.count("COMMIT") == server.queries.count("BEGIN")
        await asyncio.sleep(0)
    assert server.farewells == 5


async def test_stopping_does_not_wait_for_clients_that_think() -> None:
    async with fake_server() as server:
        load = Load(server.address(), Plan(clients=3, think=3600))
        await load.start()
        async with asyncio.timeout(5):
            await load.stop()


async def test_stopping_gives_up_on_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.demo.load.STOP_SECONDS", 0.01)
    monkeypatch.setattr("proxy.demo.client.CLOSE_SECONDS", 0.01)

    class Mute(FakeServer):
        def _say(self, writer: asyncio.StreamWriter, messages: Sequence[Message]) -> bool:
            return bool(self.queries) or super()._say(writer, messages)

    monkeypatch.setattr("tests.proxy.demo.fake_server.FakeServer", Mute)
    async with fake_server() as server:
        load = Load(server.address(), Plan(clients=1, think=0))
        await load.start()
        await server.heard(1)
        async with asyncio.timeout(5):
            await load.stop()
    assert load.transactions == 0


async def test_a_look_covers_the_time_since_the_last_one() -> None:
    now = [100.0]
    async with fake_server() as server:
        load = Load(server.address(), Plan(clients=1, think=0), clock=lambda: now[0])
        await load.start()
        await server.heard(13)
        now[0] = 102.0
        first = load.look()
        assert first.seconds == 2.0
        assert first.per_second == len(first.latencies) / 2
        assert len(first.latencies) >= 4
        assert load.look() == Interval(0.0, [])
        await load.stop()


def test_an_interval_of_no_time_has_no_rate() -> None:
    assert Interval(0.0, [1.0]).per_second == 0.0


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1.0), (1, 1.0), (50, 50.0), (50.5, 51.0), (99, 99.0), (100, 100.0)]
)
def test_percentiles_are_of_the_nearest_rank(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 101)], percent) == value


def test_percentiles_of_few_numbers() -> None:
    assert percentile([], 50) is None
    assert Interval(1.0, [0.5]).percentile(99) == 0.5
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0], 51) == 2.0


def test_the_table_has_a_row_for_every_account_the_load_may_touch() -> None:
    assert f"generate_series(1, {ROWS})" in SCHEMA
