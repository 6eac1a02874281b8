import pytest

from protocol import sqlstate, tags
from proxy.pool.janitor import Janitor
from proxy.reasons import ClientClosed, ServerClosed
from tests.support.clock import SECOND
from tests.support.doubles import FakeServer, FakeSession, World, make_settings, sweep_after


def with_server(world: World) -> tuple[FakeSession, FakeServer]:
    session = world.session()
    session.asks()
    world.open_all()
    assert session.server is not None
    return session, session.server


# Sessions that wait.


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"query_wait_timeout": 120}, "query_wait_timeout"),
        ({"query_wait_timeout": 0, "query_timeout": 120}, "query_timeout"),
    ],
)
def test_a_session_that_waited_for_too_long_is_refused(settings: dict[str, object], text: str) -> None:
    world = World(query_wait_notify=0, **settings)
    first, second = world.session(), world.session()
    first.asks()
    world.clock.advance(1)
    second.asks()

    sweep_after(world, 119)
    assert first.waits
    sweep_after(world, 0.001)

    assert first.error is not None
    assert (first.error.message, first.error.sqlstate, first.reason) == (
        text,
        sqlstate.QUERY_CANCELED,
        ClientClosed.TIMEOUT,
    )
    assert not first.waits
    assert second.waits


def test_a_login_that_waits_for_a_server_is_given_up_like_a_query() -> None:
    world = World(query_wait_timeout=0, query_wait_notify=0, query_timeout=1)
    login = world.session()
    login.asks()
    del login.pool.sessions[login]
    sweep_after(world, 2)
    assert login.error is not None
    assert login.error.message == "query_timeout"


def test_without_timeouts_a_session_waits_for_ever() -> None:
    world = World(query_wait_timeout=0)
    session = world.session()
    session.asks()
    sweep_after(world, 1e6)
    assert session.waits


@pytest.mark.parametrize(("notify", "waited", "told"), [(5, 4.9, 0), (5, 5, 1), (0, 100, 0)])
def test_a_session_that_waits_is_told_so_once(notify: float, waited: float, told: int) -> None:
    world = World(query_wait_notify=notify)
    session = world.session()
    session.asks()
    sweep_after(world, waited)
    assert session.told == told
    sweep_after(world, 0.0001)
    assert session.told == told


# Sessions with a server.


@pytest.mark.parametrize(
    ("setting", "status", "clock", "code", "text"),
    [
        ("query_timeout", tags.STATUS_BUSY, "query_started", sqlstate.QUERY_CANCELED, "query timeout"),
        (
            "idle_transaction_timeout",
            tags.STATUS_IN_TRANSACTION,
            "idle_since",
            sqlstate.IDLE_IN_TRANSACTION_TIMEOUT,
            "idle transaction timeout",
        ),
        (
            "idle_transaction_timeout",
            tags.STATUS_FAILED,
            "idle_since",
            sqlstate.IDLE_IN_TRANSACTION_TIMEOUT,
            "idle transaction timeout",
        ),
        (
            "transaction_timeout",
            tags.STATUS_BUSY,
            "xact_started",
            sqlstate.TRANSACTION_TIMEOUT,
            "transaction timeout",
        ),
        (
            "transaction_timeout",
            tags.STATUS_IN_TRANSACTION,
            "xact_started",
            sqlstate.TRANSACTION_TIMEOUT,
            "transaction timeout",
        ),
    ],
)
def test_a_session_over_its_time_is_refused(
    setting: str, status: int, clock: str, code: str, text: str
) -> None:
    world = World(**{setting: 10})
    session, server = with_server(world)
    server.status = status
    for name in ("query_started", "xact_started", "idle_since"):
        setattr(session, name, world.clock() if name == clock else world.clock() + 1000 * SECOND)

    sweep_after(world, 10)
    assert session.error is None
    sweep_after(world, 0.001)

    assert session.error is not None
    assert (session.error.message, session.error.sqlstate, session.reason) == (
        text,
        code,
        ClientClosed.TIMEOUT,
    )


@pytest.mark.parametrize("status", [tags.STATUS_BUSY, tags.STATUS_IN_TRANSACTION, tags.STATUS_IDLE])
def test_without_timeouts_a_session_keeps_its_server(status: int) -> None:
    world = World()
    session, server = with_server(world)
    server.status = status
    sweep_after(world, 1e6)
    assert session.error is None


@pytest.mark.parametrize("setting", ["query_timeout", "idle_transaction_timeout", "transaction_timeout"])
def test_a_session_whose_server_is_idle_is_in_no_query_and_no_transaction(setting: str) -> None:
    world = World(pool_mode="session", **{setting: 10})
    session, _ = with_server(world)
    sweep_after(world, 1000)
    assert session.error is None


@pytest.mark.parametrize(
    ("fast", "status", "ended"),
    [
        (True, tags.STATUS_IDLE, True),
        (False, tags.STATUS_IDLE, False),
        (True, tags.STATUS_BUSY, False),
        (True, tags.STATUS_IN_TRANSACTION, False),
    ],
)
def test_in_session_mode_an_outdated_server_may_be_closed_between_two_transactions(
    fast: bool, status: int, ended: bool
) -> None:
    world = World(pool_mode="session", server_fast_close=fast)
    (session, server), (other, _) = with_server(world), with_server(world)
    server.status = status
    server.close_needed = ServerClosed.RECONNECT

    sweep_after(world, 1)

    assert (session.error is not None) is ended
    assert other.error is None
    if session.error is not None:
        assert session.error.message == "database configuration changed"
        assert session.reason is ClientClosed.SERVER_LOST


def test_the_visit_of_a_login_has_no_timeouts_of_a_session() -> None:
    world = World(query_timeout=1)
    session, server = with_server(world)
    server.status = tags.STATUS_BUSY
    del session.pool.sessions[session]
    sweep_after(world, 1000)
    assert session.error is None


def test_a_server_that_parts_from_its_session_in_the_same_sweep_is_passed_over() -> None:
    world = World(query_timeout=1)
    (first, one), (second, other) = with_server(world), with_server(world)
    one.status = other.status = tags.STATUS_BUSY
    first.query_started = second.query_started = world.clock()
    first.on_refused = second.gives_back

    sweep_after(world, 2)

    assert first.error is not None
    assert second.error is None


@pytest.mark.parametrize("forced", [{}, {"user": "owner"}])
def test_timeouts_are_those_of_the_client_s_own_user(forced: dict[str, str]) -> None:
    world = World(
        databases={"app": {"host": "db", **forced}},
        users={"alice": {"query_timeout": 5, "client_idle_timeout": 50}},
        query_wait_timeout=0,
        query_timeout=20,
    )
    alice = world.logs_in(user="alice")
    bob = world.logs_in(user="bob")
    idle = world.logs_in(user="alice")
    for session in (alice, bob):
        session.asks()
        world.open_all()
        assert session.server is not None
        session.server.status = tags.STATUS_BUSY
        session.query_started = world.clock()

    sweep_after(world, 5.1)
    assert (alice.error is not None, bob.error is not None) == (True, False)
    sweep_after(world, 15)
    assert bob.error is not None
    sweep_after(world, 29)
    assert idle.error is None
    sweep_after(world, 1)
    assert idle.error is not None
    again = world.logs_in(user="alice")
    sweep_after(world, 51)
    assert again.error is not None


def test_timeouts_of_a_removed_database_with_a_forced_user_are_what_they_were() -> None:
    world = World(databases={"app": {"user": "owner"}}, query_wait_timeout=10)
    session = world.logs_in()
    session.asks()
    world.manager.apply(make_settings(databases={}))

    sweep_after(world, 10)
    assert session.waits
    sweep_after(world, 0.001)
    assert session.error is not None


# Idle clients.


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_client_that_asks_for_nothing_for_too_long_is_sent_away(mode: str) -> None:
    world = World(pool_mode=mode, client_idle_timeout=10, default_pool_size=1)
    idle, waiting = world.session(), world.session()
    if mode == "session":
        idle.asks()
        world.open_all()
    else:
        world.session().asks()
    waiting.asks()

    sweep_after(world, 10)
    assert idle.error is None
    sweep_after(world, 0.001)

    assert idle.error is not None
    assert (idle.error.message, idle.error.sqlstate) == ("client_idle_timeout", sqlstate.IDLE_SESSION_TIMEOUT)
    assert waiting.error is None


def test_a_client_that_takes_nothing_for_too_long_is_sent_away() -> None:
    world = World(client_write_timeout=10)
    stuck, other = world.session(), world.session()
    stuck.stuck_since = world.clock()

    sweep_after(world, 10)
    assert stuck.error is None
    sweep_after(world, 0.001)

    assert stuck.error is not None
    assert (stuck.error.message, stuck.reason) == ("client_write_timeout", ClientClosed.WRITE_TIMEOUT)
    assert other.error is None


# The rest of a sweep.


def test_a_sweep_opens_what_is_wanted_by_now() -> None:
    world = World(min_pool_size=1)
    world.session()
    sweep_after(world, 1)
    assert len(world.dialler.dialled) == 1


def test_a_sweep_forgets_databases() -> None:
    world = World(databases={"*": {}}, autodb_idle_timeout=1)
    world.pool()
    sweep_after(world, 1)
    assert world.manager.databases == {}


def test_a_statistics_period_ends_when_it_is_over() -> None:
    world = World(stats_period=60)
    janitor = Janitor(world.manager, world.clock())
    world.pool().stats.xact_count = 7

    assert janitor.sweep(world.clock.advance(59.9)) is False
    assert sum(world.pool().stats.last_period()) == 0
    assert janitor.sweep(world.clock.advance(0.3)) is True
    assert sum(world.pool().stats.last_period()) == 7
    assert world.manager.period_ns == int(60.2 * SECOND)
    assert janitor.sweep(world.clock.advance(59.9)) is False
