import pytest

from protocol.wire import message
from tests.bench.micro import Exchange, World, chunks, count_calls, counts, exchanges, nanoseconds, ready


@pytest.mark.parametrize("exchange", exchanges(), ids=lambda exchange: exchange.name)
def test_an_exchange_ends_with_the_server_back_in_its_pool(exchange: Exchange) -> None:
    world = ready(exchange)
    before = world.pool.stats.xact_count
    world.run(exchange, 3)
    world.check()
    assert world.pool.stats.xact_count - before == 3


@pytest.mark.parametrize("exchange", exchanges(), ids=lambda exchange: exchange.name)
def test_every_chunk_is_one_write(exchange: Exchange) -> None:
    world = ready(exchange)
    before = world.writes()
    world.run(exchange, 3)
    assert world.writes() - before == 3 * (len(exchange.request) + len(exchange.reply))


def test_an_exchange_that_stays_open_is_noticed() -> None:
    query = exchanges()[0].request
    world = World()
    world.run(Exchange("no reply", query, ()), 1)
    with pytest.raises(RuntimeError, match="went wrong"):
        world.check()


def test_a_reply_nobody_asked_for_is_noticed() -> None:
    world = World()
    world.run(Exchange("stray", (), (message(ord("C"), b"SELECT 1\0"),)), 1)
    with pytest.raises(RuntimeError, match="went wrong"):
        world.check()


def test_a_stream_is_cut_as_a_socket_would() -> None:
    assert chunks(b"abcdefg", 3) == (b"abc", b"def", b"g")


def test_calls_of_python_functions_are_counted() -> None:
    def outer() -> None:
        for _ in range(3):
            inner()

    def inner() -> None:
        len("built in")

    assert list(count_calls(outer).values()) == [3]


def test_calls_and_writes_of_a_transaction_are_counted() -> None:
    spent = counts(exchanges()[0])
    assert spent.calls["Connection.data_received"] == 2
    assert spent.writes == 2


def test_a_transaction_takes_time() -> None:
    assert nanoseconds(exchanges()[0], runs=1, seconds=0.001) > 0


def test_a_client_waits_where_the_exchange_says_so() -> None:
    waits = next(exchange for exchange in exchanges() if exchange.waiting)
    assert counts(waits).calls["Waiting.assigned"] == 1
