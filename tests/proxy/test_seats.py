import asyncio
from typing import Any

import pytest

from proxy.errors import TooManyClients
from proxy.link import CallFailed, LinkLost
from proxy.seats import Left, Seat, Seated, Seating, Seats
from tests.support.doubles import make_settings


class Supervisor:
    """The other end of a worker's link; `answer` is what it says when `let` is set."""

    def __init__(self, **settings: object) -> None:
        self.sent: list[object] = []
        self.asked: list[object] = []
        self.answer: str | Exception = ""
        self.let = asyncio.Event()
        self.let.set()
        made = make_settings(**settings)
        self.seats = Seats(self, self, lambda: made)  # type: ignore[arg-type]

    def send(self, message: object) -> None:
        self.sent.append(message)

    async def ask(self, question: object) -> Any:
        self.asked.append(question)
        await self.let.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_where_there_is_no_limit_a_client_is_only_reported() -> None:
    supervisor = Supervisor()
    await supervisor.seats.take("app", "alice")
    supervisor.seats.leave("app", "alice")
    assert supervisor.sent == [Seated("app", "alice"), Left("app", "alice")]
    assert supervisor.asked == []


@pytest.mark.parametrize("limit", ["max_db_client_connections", "max_user_client_connections"])
async def test_where_there_is_a_limit_the_supervisor_is_asked(limit: str) -> None:
    supervisor = Supervisor(**{limit: 1})
    await supervisor.seats.take("app", "alice")
    assert supervisor.asked == [Seat("app", "alice")]
    supervisor.answer = limit
    with pytest.raises(TooManyClients, match=limit):
        await supervisor.seats.take("app", "alice")
    assert supervisor.sent == []


@pytest.mark.parametrize(
    ("answer", "left"), [("", True), ("max_db_client_connections", False), (CallFailed("why"), False)]
)
async def test_a_client_that_goes_while_it_is_asked_for_is_not_counted(
    answer: str | Exception, left: bool
) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: reports.append(about))
    supervisor = Supervisor(max_db_client_connections=1)
    supervisor.let.clear()
    supervisor.answer = answer
    login = asyncio.get_running_loop().create_task(supervisor.seats.take("app", "alice"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    assert supervisor.sent == []
    supervisor.let.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert supervisor.sent == ([Left("app", "alice")] if left else [])
    assert reports == []


async def test_a_supervisor_that_has_gone_refuses_nobody() -> None:
    supervisor = Supervisor(max_db_client_connections=1)
    supervisor.answer = LinkLost("gone")
    await supervisor.seats.take("app", "alice")


def test_limits_hold_over_all_workers_and_what_is_lost_is_not_counted() -> None:
    settings = make_settings(max_db_client_connections=3, max_user_client_connections=2)
    seating = Seating(lambda: settings)
    assert seating.ask(1, Seat("app", "alice")) == ""
    assert seating.ask(2, Seat("app", "alice")) == ""
    assert seating.ask(3, Seat("app", "alice")) == "max_user_client_connections"
    assert seating.ask(3, Seat("app", "bob")) == ""
    assert seating.ask(1, Seat("app", "carol")) == "max_db_client_connections"
    assert (seating.of_database("app"), seating.of_user("alice")) == (3, 2)
    seating.lost(2)
    assert (seating.of_database("app"), seating.of_user("alice")) == (2, 1)
    assert seating.ask(1, Seat("app", "alice")) == ""
    seating.lost(2)


def test_who_was_not_counted_cannot_leave() -> None:
    seating = Seating(make_settings)
    seating.count(1, "app", "alice", -1)
    seating.count(1, "app", "alice", 1)
    seating.count(1, "app", "alice", -1)
    seating.count(1, "app", "alice", -1)
    assert (seating.of_database("app"), seating.of_user("alice")) == (0, 0)
