"""Several pools that share limits, in any order of events: limits hold, nothing leaks, nobody starves."""

from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.errors import ServerRefused
from proxy.pool import states
from proxy.pool.janitor import Janitor
from proxy.reasons import ServerClosed, Unclean
from tests.support.clock import SECOND
from tests.support.doubles import FakeServer, FakeSession, World

T = TypeVar("T")

ROUTES = [("a", "alice"), ("a", "bob"), ("b", "alice"), ("b", "bob"), ("forced", "carol")]
KINDS = [(), ((b"datestyle", b"german"),)]
REFUSAL = ServerRefused("role does not exist", "28000")
LIMITS = st.fixed_dictionaries(
    {
        "pool_mode": st.sampled_from(["session", "transaction", "statement"]),
        "default_pool_size": st.integers(0, 3),
        "reserve_pool_size": st.integers(0, 1),
        "reserve_pool_timeout": st.sampled_from([0, 1]),
        "min_pool_size": st.integers(0, 2),
        "max_db_connections": st.integers(0, 3),
        "max_user_connections": st.integers(0, 3),
        "server_check_delay": st.sampled_from([0, 30]),
        "server_lifetime": st.sampled_from([0, 5, 3600]),
        "server_idle_timeout": st.sampled_from([0, 2]),
        "server_round_robin": st.booleans(),
    }
)


def world_with(limits: dict[str, object]) -> World:
    databases = {"a": {"host": "one"}, "b": {"host": "two"}, "forced": {"host": "one", "user": "alice"}}
    return World(databases=databases, query_wait_timeout=0, **limits)


def check_limits(world: World) -> None:
    """What PostgreSQL sees is never over a limit."""
    manager, common = world.manager, world.manager.settings
    for pool in manager.pools.values():
        if common.default_pool_size:
            assert pool.open <= common.default_pool_size + common.reserve_pool_size
    for name in manager.databases:
        assert not common.max_db_connections or manager.ledger.of_database(name) <= common.max_db_connections
    for name in manager.users:
        assert not common.max_user_connections or manager.ledger.of_user(name) <= common.max_user_connections


def check_claims(world: World) -> None:
    """Only pools that wait claim anything."""
    waiting = sum(1 for pool in world.manager.pools.values() if pool.waiting)
    assert world.manager.ledger.claims() <= waiting
    assert world.manager.ledger.contended == bool(world.manager.ledger.claims())


def opened(world: World, server: FakeServer) -> None:
    """A login succeeds; the server's age counts from now."""
    lifetime = int(server.pool.settings.server_lifetime * SECOND)
    server.expires_at = world.clock() + lifetime
    server.open()


def in_state(world: World, state: int) -> list[FakeServer]:
    pools = world.manager.pools.values()
    return [server for pool in pools for server in world.servers(pool, state)]


def settle(world: World) -> None:
    """PostgreSQL does all it was asked for."""
    for _ in range(50):
        logins, tested = in_state(world, states.LOGIN), in_state(world, states.TESTED)
        canceled, closing = in_state(world, states.BEING_CANCELED), in_state(world, states.CLOSING)
        if not (logins or tested or canceled or closing):
            return
        for server in closing:
            server.finish()
        for server in logins:
            if server.state == states.LOGIN:
                opened(world, server)
        for server in tested:
            if server.state == states.TESTED:
                server.answer()
        for server in canceled:
            if server.state == states.BEING_CANCELED:
                server.cancel_over()


class Pools(RuleBasedStateMachine):
    """Clients ask, release, wait, vanish; servers open, fail, answer, close; an administrator interferes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.sessions: list[FakeSession] = []

    @initialize(limits=LIMITS)
    def begin(self, limits: dict[str, object]) -> None:
        self.world = world_with(limits)
        self.janitor = Janitor(self.world.manager, self.world.clock())

    def pick(self, data: st.DataObject, these: list[T]) -> T | None:
        return data.draw(st.sampled_from(these)) if these else None

    def server_in(self, data: st.DataObject, state: int) -> FakeServer | None:
        return self.pick(data, in_state(self.world, state))

    # Clients.

    @rule(route=st.sampled_from(ROUTES), kind=st.sampled_from(KINDS))
    def a_client_comes_and_asks(self, route: tuple[str, str], kind: tuple[tuple[bytes, bytes], ...]) -> None:
        session = self.world.session(self.world.pool(*route), user=route[1], boot=kind)
        self.sessions.append(session)
        session.asks()

    @rule(data=st.data())
    def a_client_asks_again(self, data: st.DataObject) -> None:
        idle = [one for one in self.sessions if one.here and not one.waits and one.server is None]
        session = self.pick(data, idle)
        if session is not None:
            session.asks()

    @rule(data=st.data(), missing=st.sampled_from([None, None, None, Unclean.BUSY]))
    def a_client_gives_back(self, data: st.DataObject, missing: Unclean | None) -> None:
        session = self.pick(data, [one for one in self.sessions if one.server is not None])
        if session is not None:
            session.gives_back(missing)

    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        session = self.pick(data, self.sessions)
        if session is not None:
            session.leaves()
            self.forget(session)

    @rule(data=st.data())
    def a_client_vanishes_unnoticed(self, data: st.DataObject) -> None:
        session = self.pick(data, [one for one in self.sessions if one.waits])
        if session is not None:
            session.here = False
            self.forget(session)

    @rule(data=st.data())
    def a_client_cancels(self, data: st.DataObject) -> None:
        session = self.pick(data, [one for one in self.sessions if one.server is not None])
        if session is not None and session.server is not None:
            session.server.cancels = 1

    def forget(self, session: FakeSession) -> None:
        self.sessions.remove(session)
        del session.pool.sessions[session]

    # PostgreSQL.

    @rule(data=st.data())
    def a_login_succeeds(self, data: st.DataObject) -> None:
        server = self.server_in(data, states.LOGIN)
        if server is not None:
            opened(self.world, server)

    @rule(data=st.data())
    def a_host_does_not_answer(self, data: st.DataObject) -> None:
        server = self.server_in(data, states.LOGIN)
        if server is not None:
            server.unreachable()

    @rule(data=st.data(), principle=st.booleans())
    def a_login_is_refused(self, data: st.DataObject, principle: bool) -> None:
        server = self.server_in(data, states.LOGIN)
        if server is not None:
            self.world.manager.hosts.backoff(server.host).succeeded()
            until = self.world.clock() + SECOND
            if principle:
                server.pool.refuse_logins(REFUSAL, until)
            else:
                server.pool.hold_off(until)
            server.finish()

    @rule(data=st.data(), good=st.booleans())
    def a_query_of_ours_ends(self, data: st.DataObject, good: bool) -> None:
        server = self.server_in(data, states.TESTED)
        if server is not None:
            if good:
                server.answer()
            else:
                server.close(ServerClosed.CHECK_FAILED)

    @rule(data=st.data())
    def a_cancel_ends(self, data: st.DataObject) -> None:
        server = self.server_in(data, states.BEING_CANCELED)
        if server is not None:
            server.cancel_over()

    @rule(data=st.data(), state=st.sampled_from(range(1, states.CLOSING)))
    def postgresql_closes(self, data: st.DataObject, state: int) -> None:
        server = self.server_in(data, state)
        if server is not None:
            server.finish()

    @rule(data=st.data())
    def a_closing_server_has_closed(self, data: st.DataObject) -> None:
        server = self.server_in(data, states.CLOSING)
        if server is not None:
            server.finish()

    # Time and administrators.

    @rule(seconds=st.sampled_from([0.01, 0.05, 0.2, 1, 10, 40]))
    def time_passes(self, seconds: float) -> None:
        self.janitor.sweep(self.world.clock.advance(seconds))

    @rule(name=st.sampled_from([None, "a", "forced"]), resume=st.booleans())
    def somebody_pauses_or_resumes(self, name: str | None, resume: bool) -> None:
        if resume:
            self.world.manager.resume(name)
        else:
            self.world.manager.pause(name)

    @rule(name=st.sampled_from([None, "b"]))
    def somebody_reconnects(self, name: str | None) -> None:
        self.world.manager.reconnect(name)

    @rule(name=st.sampled_from([None, "a"]))
    def somebody_kills(self, name: str | None) -> None:
        self.world.manager.kill_servers(name)

    @rule(limits=LIMITS)
    def the_settings_change(self, limits: dict[str, object]) -> None:
        """Sizes grow; to shrink takes time, and has tests of its own."""
        old = self.world.manager.settings
        grown = {
            name: value for name, value in limits.items() if "size" not in name and "connections" not in name
        }
        self.world.manager.apply(old.model_copy(update={**grown, "pool_mode": old.pool_mode}))

    # What always holds.

    @invariant()
    def everything_is_where_it_belongs(self) -> None:
        self.world.check()
        check_limits(self.world)
        check_claims(self.world)
        for session in self.sessions:
            if session.server is not None:
                assert session.server.session is session

    def teardown(self) -> None:
        """Everything ends well: all who wait are served, and no slot is lost."""
        world = self.world
        world.manager.resume(None)
        for _ in range(20 * len(self.sessions) + 20):
            self.janitor.sweep(world.clock.advance(2))
            settle(world)
            self.everything_is_where_it_belongs()
            for session in self.sessions:
                if session.server is not None:
                    session.gives_back()
                    self.everything_is_where_it_belongs()
        assert not [session for session in self.sessions if session.waits], list(world.manager.pools.values())

        world.manager.pause(None)
        settle(world)
        assert world.manager.servers_left(None) == 0
        world.check()


Pools.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPools = Pools.TestCase


@settings(max_examples=40, deadline=None)
@given(
    limits=LIMITS,
    crowd=st.lists(st.tuples(st.sampled_from(ROUTES), st.sampled_from(KINDS)), min_size=2, max_size=12),
    step=st.sampled_from([0.001, 0.02, 0.3]),
)
def test_nobody_starves_although_everybody_asks_again_at_once(
    limits: dict[str, object],
    crowd: list[tuple[tuple[str, str], tuple[tuple[bytes, bytes], ...]]],
    step: float,
) -> None:
    world = world_with(limits)
    janitor = Janitor(world.manager, world.clock())
    sessions = [world.session(world.pool(*route), user=route[1], boot=kind) for route, kind in crowd]
    served = dict.fromkeys(sessions, 0)
    for session in sessions:
        session.asks()
    rounds = int(100 * len(sessions) * max(1, 0.01 / step))
    while rounds and not all(count > 2 for count in served.values()):
        rounds -= 1
        janitor.sweep(world.clock.advance(step))
        settle(world)
        for session in sessions:
            if session.server is not None:
                served[session] += 1
                session.gives_back()
                session.asks()
        world.check()
        check_limits(world)
    assert all(count > 2 for count in served.values()), served
