"""A stay at a server, whatever it is for: lent, asked something, given back."""

import asyncio

import pytest

from protocol.frontend import Query
from proxy.errand import Errand
from proxy.errors import Killed, ServerLost, ShuttingDown
from proxy.reasons import ClientClosed, ServerClosed
from proxy.stay import Stay, answer
from tests.support.playbook import Playbook


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_errand_of_ones_own_is_run_and_the_server_goes_back() -> None:
    book = Playbook()
    stay = Stay(0, book.pool)
    server = await stay.borrow(book.now)
    errand = Errand(answer)
    running = asyncio.create_task(stay.run(server, errand, Query(b"select 1").encode()))
    await settle()
    book.to_server("Q select 1")
    book.server("T", "D 1", "C SELECT 1", "Z I")
    assert await running is None
    assert errand.row is not None
    stay.leave()
    assert book.state() == "idle"


async def test_nothing_is_asked_of_a_server_that_was_lost() -> None:
    book = Playbook()
    stay = Stay(0, book.pool)
    server = await stay.borrow(book.now)
    server.close(ServerClosed.KILLED)
    with pytest.raises(Killed):
        await stay.ask(server, b"select 1")
    stay.leave()


async def test_whoever_breaks_off_costs_the_server() -> None:
    book = Playbook()
    stay = Stay(0, book.pool)
    server = await stay.borrow(book.now)
    asking = asyncio.create_task(stay.ask(server, b"select 1"))
    await settle()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    stay.leave()
    assert server.close_reason is ServerClosed.ABANDONED


async def test_who_waits_hears_that_there_will_be_no_server() -> None:
    book = Playbook(open=0)
    stay = Stay(0, book.pool)
    waiting = asyncio.create_task(stay.borrow(book.now))
    await settle()
    book.pool.refuse_waiting(ShuttingDown("server shutting down"), ClientClosed.SHUTDOWN)
    with pytest.raises(ShuttingDown):
        await waiting
    stay.leave()
    assert not book.pool.waiting


async def test_a_server_that_goes_silently_is_lost() -> None:
    book = Playbook()
    stay = Stay(0, book.pool)
    server = await stay.borrow(book.now)
    asking = asyncio.create_task(stay.ask(server, b"select 1"))
    await settle()
    server.lost()
    with pytest.raises(ServerLost):
        await asking
    stay.leave()
