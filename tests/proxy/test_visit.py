import asyncio

import pytest

from proxy.errors import PoolerError, ServerLost, as_fatal
from proxy.pool import states
from proxy.pool.parameters import CHANGED
from proxy.reasons import ServerClosed
from proxy.visit import Visit
from proxy.wishes import Wishes
from tests.support import messages as m
from tests.support.playbook import Playbook

WANTED = Wishes("alice", "app", {b"timezone": b"asia/tokyo"}, ((b"search_path", b"x"),))
SETS = "Q SET timezone='asia/tokyo';SELECT pg_catalog.set_config('search_path','x',false)"
ACCEPTED = ("S TimeZone=Asia/Tokyo", "C SET", "T", "D x", "C SELECT 1", "Z I")
NOTHING = Wishes("alice", "app")


class Stay:
    """A visit under way."""

    def __init__(self, book: Playbook, wishes: Wishes = WANTED) -> None:
        self.visit = Visit(77, book.pool)
        self.task = asyncio.create_task(self.visit.make(wishes, book.now))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begun(book: Playbook, wishes: Wishes = WANTED) -> Stay:
    stay = Stay(book, wishes)
    await settle()
    return stay


async def test_the_wishes_are_checked_and_the_servers_spelling_is_remembered() -> None:
    book = Playbook()
    stay = await begun(book)
    book.to_server(SETS)
    assert book.state() == "active"
    book.server(*ACCEPTED)
    await stay.task
    assert book.state() == "idle"
    assert book.pool.accepted.form(b"timezone", b"asia/tokyo") == b"Asia/Tokyo"
    assert book.pool.accepted.form(b"search_path", b"x") == b"x"
    assert book.server_at().applied == ((b"search_path", CHANGED),)


async def test_what_is_known_already_is_not_asked_again() -> None:
    book = Playbook()
    stay = await begun(book)
    book.server(*ACCEPTED)
    await stay.task
    book.wire().take()
    again = await begun(book)
    await again.task
    book.to_server()
    assert book.state() == "idle"


async def test_a_visit_that_only_waits_for_a_greeting_asks_nothing() -> None:
    book = Playbook(open=0)
    stay = await begun(book, NOTHING)
    assert not stay.task.done()
    book.opens()
    await stay.task
    book.to_server()
    assert book.state() == "idle"


async def test_what_the_client_set_is_undone_for_the_next_session() -> None:
    book = Playbook()
    stay = await begun(book)
    book.server(*ACCEPTED)
    await stay.task
    book.wire().take()
    book.client("Q a")
    book.to_server("Q RESET \"search_path\";SET TimeZone='UTC'")


async def test_a_refusal_is_postgresqls_own_raised_to_fatal() -> None:
    book = Playbook()
    stay = await begun(book)
    book.server("E 22023 invalid value", "Z I")
    with pytest.raises(PoolerError) as error:
        await stay.task
    assert error.value.raw == m.error_response("22023", "invalid value", severity="FATAL")
    assert book.state() == "idle"
    assert book.server_at().applied == (), "a refused query has set nothing"


async def test_a_visit_waits_its_turn_among_sessions() -> None:
    book = Playbook()
    book.client("Q a")
    stay = await begun(book, NOTHING)
    book.client("Q b", by="b")
    book.server("C X", "Z I")
    await stay.task
    assert book.session("b").server is book.server_at()


async def test_a_pool_that_will_have_no_server_says_so() -> None:
    book = Playbook(open=0)
    stay = await begun(book, NOTHING)
    refusal = PoolerError("no")
    stay.visit.refused(refusal, None)  # type: ignore[arg-type]
    with pytest.raises(PoolerError) as error:
        await stay.task
    assert error.value is refusal


async def test_a_client_that_leaves_while_it_waits_leaves_the_queue() -> None:
    book = Playbook()
    book.client("Q a")
    stay = await begun(book)
    assert stay.visit in book.pool.waiting
    stay.task.cancel()
    await settle()
    assert stay.visit not in book.pool.waiting
    book.server("C X", "Z I")
    assert book.state() == "idle"


async def test_a_client_that_leaves_the_moment_it_is_served_gives_the_server_back() -> None:
    book = Playbook()
    book.client("Q a")
    stay = await begun(book)
    book.server("C X", "Z I")
    stay.task.cancel()
    await settle()
    book.to_server("Q a")
    assert book.state() == "idle"


async def test_a_client_that_leaves_during_the_check_costs_the_server() -> None:
    book = Playbook()
    stay = await begun(book)
    stay.task.cancel()
    await settle()
    assert book.closed == [ServerClosed.ABANDONED]
    assert book.pool.accepted.form(b"search_path", b"x") is None


@pytest.mark.parametrize("when", ["before", "during"])
async def test_where_a_server_is_lost_on_the_way_another_one_is_asked(when: str) -> None:
    book = Playbook()
    if when == "before":
        book.client("Q a")
        stay = await begun(book)
        book.server("C X", "Z I")
    else:
        stay = await begun(book)
    book.server_closes()
    await settle()
    assert book.state() == "gone"
    book.opens()
    await settle()
    book.to_server(SETS, on=2)
    book.server(*ACCEPTED, on=2)
    await stay.task
    assert book.state(2) == "idle"


async def test_a_login_that_loses_every_server_is_told_in_the_end() -> None:
    book = Playbook()
    stay = await begun(book)
    for number in range(1, 4):
        book.server_closes(on=number)
        await settle()
        assert not stay.task.done()
        book.opens()
        await settle()
    book.server_closes(on=4)
    with pytest.raises(ServerLost):
        await stay.task


async def test_a_server_lost_between_lending_and_waking_is_harmless_when_nothing_is_asked() -> None:
    book = Playbook()
    book.client("Q a")
    stay = await begun(book, NOTHING)
    book.server("C X", "Z I")
    book.server_closes()
    await stay.task
    assert book.state() == "gone"


async def test_a_visit_that_has_left_takes_no_server() -> None:
    book = Playbook()
    visit = Visit(77, book.pool)
    assert visit.assigned(book.server_at(), book.now)
    assert not visit.assigned(book.server_at(), book.now)
    book.pool.move(book.server_at(), states.IDLE)


def test_only_the_severity_is_raised() -> None:
    error = m.error_response("22023", "SERROR VERROR", severity="ERROR")
    fields = m.fields_of(as_fatal(error)[5:])
    assert (fields["S"], fields["V"], fields["M"]) == ("FATAL", "FATAL", "SERROR VERROR")
    assert len(as_fatal(error)) == len(error)
