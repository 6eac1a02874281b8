import itertools
import logging
import random

import pytest

from config.settings import Settings
from protocol import tags
from proxy.client import Client
from proxy.derive import Deriver
from proxy.errors import DatabaseDisabled, TimedOut, TooManyClients
from proxy.lobby import Lobby
from proxy.reasons import ClientClosed
from proxy.wishes import Wishes
from tests.support.playbook import Playbook


def lobby(**settings: object) -> Lobby:
    book = Playbook(open=0, **settings)  # type: ignore[arg-type]

    def no_console(client: Client, user: str, own: bool) -> object:
        raise NotImplementedError

    return Lobby(book.manager, Deriver(), no_console, lambda: book.now, itertools.count(1))  # type: ignore[arg-type]


def guest(room: Lobby, database: str | None = None) -> Client:
    client = Client(room)
    if database is not None:
        client.wishes = Wishes("alice", database)
    room.enter(client)
    return client


def test_numbers_are_never_given_twice() -> None:
    room = lobby()
    assert len({Client(room).id for _ in range(100)}) == 100


def test_a_client_leaves_once() -> None:
    room = lobby()
    left: list[int] = []
    room.on_leave = lambda: left.append(len(room.clients))
    one, two = guest(room), guest(room)
    assert room.leave(one, ClientClosed.CLIENT_LEFT, "bye")
    assert not room.leave(one, ClientClosed.KILLED, "bye")
    assert list(room.clients.values()) == [two]
    assert room.closed_clients == {ClientClosed.CLIENT_LEFT: 1}
    assert left == [1]


def test_consoles_and_cancel_requests_do_not_count_against_max_client_conn() -> None:
    room = lobby()
    ordinary, special = guest(room), guest(room)
    room.set_apart(special)
    assert room.ordinary_clients() == 1
    room.leave(special, ClientClosed.CANCEL, "")
    assert room.ordinary_clients() == 1
    room.leave(ordinary, ClientClosed.CLIENT_LEFT, "")
    assert room.ordinary_clients() == 0


def test_a_client_that_has_left_is_not_set_apart_any_more() -> None:
    room = lobby()
    client = guest(room)
    room.leave(client, ClientClosed.KILLED, "")
    room.set_apart(client)
    assert room.ordinary_clients() == 0


def test_errors_are_counted_by_known_database_and_class() -> None:
    room = lobby()
    for database in ("app", "app", "made up by a stranger", None):
        room.count_error(guest(room, database), TimedOut("query_timeout"))
    assert room.errors == {("app", "57"): 2, ("", "57"): 2}


def test_failed_logins_are_counted_by_method() -> None:
    room = lobby(auth_type="scram-sha-256")
    room.count_login_failure(guest(room))
    client = guest(room)
    client.method = "peer"
    room.count_login_failure(client)
    assert room.login_failures == {"scram-sha-256": 1, "peer": 1}


def test_only_those_who_said_anything_are_logged_as_they_leave(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "howdah")
    room = lobby()
    room.leave(guest(room), ClientClosed.CLIENT_LOST, "client unexpected eof")
    assert not caplog.records
    client = guest(room, "app")
    client.connection.heard = True
    room.leave(client, ClientClosed.CLIENT_LOST, "client unexpected\neof")
    (record,) = caplog.records
    assert "closing because: client unexpected" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_logging_may_be_turned_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "howdah")
    room = lobby(log_disconnections=False, log_pooler_errors=False)
    client = guest(room, "app")
    room.count_error(client, TimedOut("x"))
    room.leave(client, ClientClosed.CLIENT_LEFT, "bye")
    assert not caplog.records


def test_new_settings_make_new_caps_and_keys() -> None:
    room = lobby(max_packet_size=20_000)
    key = room.mock_keys.of("nobody")
    assert room.frontend_caps[tags.QUERY] == 20_000
    changed = room.settings.model_copy(update={"max_packet_size": 30_000, "disable_pqexec": False})
    room.manager.apply(Settings.model_validate(dict(changed) | {"credentials": {"new": "secret"}}))
    assert room.settings.max_packet_size == 30_000
    room.apply()
    assert room.frontend_caps[tags.QUERY] == 30_000
    assert room.mock_keys.of("nobody") != key


def test_disable_pqexec_forbids_simple_queries() -> None:
    assert lobby(disable_pqexec=True).frontend_caps[tags.QUERY] == 0


def test_many_clients_come_and_go_in_any_order() -> None:
    room = lobby()
    chance = random.Random(3)
    inside: list[Client] = []
    for _ in range(500):
        if inside and chance.random() < 0.5:
            room.leave(inside.pop(chance.randrange(len(inside))), ClientClosed.CLIENT_LEFT, "")
        else:
            inside.append(guest(room))
            if chance.random() < 0.3:
                room.set_apart(inside[-1])
        assert room.ordinary_clients() == sum(not client.is_special for client in inside)


class FakeSeats:
    """Counts over all workers."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def take(self, database: str, user: str) -> None:
        if len(self.taken) == 2:
            raise TooManyClients("client connections exceeded (elsewhere)")
        self.taken.append((database, user))

    def leave(self, database: str, user: str) -> None:
        self.taken.remove((database, user))


async def test_one_of_many_workers_counts_its_clients_with_those_of_others() -> None:
    room = lobby()
    room.seats = seats = FakeSeats()  # type: ignore[assignment]
    first = await room.admit(Wishes("alice", "app"))
    await room.admit(Wishes("bob", "app"))
    assert seats.taken == [("app", "alice"), ("app", "bob")]
    with pytest.raises(TooManyClients, match="elsewhere"):
        await room.admit(Wishes("carol", "app"))
    room.dismiss(*first)
    assert seats.taken == [("app", "bob")]
    assert first[0].clients == 1


async def test_who_is_refused_here_takes_no_seat() -> None:
    room = lobby()
    room.seats = seats = FakeSeats()  # type: ignore[assignment]
    room.manager.disable("app", True)
    with pytest.raises(DatabaseDisabled):
        await room.admit(Wishes("alice", "app"))
    assert seats.taken == []


async def test_the_only_worker_counts_by_itself() -> None:
    room = lobby()
    admitted = await room.admit(Wishes("alice", "app"))
    assert admitted[0].clients == 1
    room.dismiss(*admitted)
    assert admitted[0].clients == 0
    room.manager.disable("app", True)
    with pytest.raises(DatabaseDisabled):
        await room.admit(Wishes("alice", "app"))
