"""A server leaves one worker and enters another; both are in one process here, with a real socket between."""

import asyncio
import errno
import itertools
import os
import select
from collections.abc import Callable
from dataclasses import replace

import pytest

from config.secret import Secret
from proxy.frames import Frames, encode
from proxy.moving import Cargo, Mover, fingerprint, remote_leases
from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from proxy.pool.leases import LOOK_AGAIN
from proxy.pool.leasing import Arrival, Below, Claim, Connected, Forget, Grant, Take
from proxy.pool.pool import Pool
from proxy.pool.statements import Preparation
from proxy.reasons import ServerClosed
from proxy.server import Server
from proxy.worker import Worker
from tests.proxy.dialling import opened, pool_of
from tests.support.clock import Clock
from tests.support.doubles import FakeSession, make_settings
from tests.support.rig import Rig, eventually

TEXT = b"select 1\0\0\0"


class Move:
    """Two workers in front of one fake PostgreSQL."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.here = rig.worker
        self.there = rig.make_worker()
        self.pool = pool_of(rig)
        self.target = self.pool_in(self.there)
        self.ours = Mover(self.here.dialler, itertools.count(1))
        self.theirs = Mover(self.there.dialler, itertools.count(100))

    @staticmethod
    def pool_in(worker: Worker) -> Pool:
        return worker.manager.pool(worker.manager.database("app", 0), "alice")

    def leave(self, server: Server) -> tuple[bytes, int] | None:
        cargo = self.ours.ship(server)
        if cargo is not None:
            del self.pool.servers[server.state][server]
            self.pool.open -= 1
            self.pool.leases.give_back(self.pool.key)
        return cargo

    def arrive(self, cargo: tuple[bytes, int]) -> Server:
        assert self.target.leases.take(self.target.key, reserve=False, since=None)
        self.theirs.unload(self.target, *cargo)
        (server,) = self.target.servers[states.LOGIN]
        assert isinstance(server, Server)
        return server

    async def over(self, server: Server) -> Server:
        cargo = self.leave(server)
        assert cargo is not None
        moved = self.arrive(cargo)
        await eventually(lambda: moved.state == states.IDLE, repr(moved))
        return moved

    async def end(self) -> None:
        for server in [server for servers in self.target.servers for server in servers]:
            server.close(ServerClosed.KILLED)
        await eventually(lambda: not self.target.open)
        self.there.deriver.close()


async def answers(server: Server, sql: bytes = b"select 1") -> None:
    done = asyncio.get_running_loop().create_future()
    server.ask(sql, lambda _, error, now: done.set_result(error), 0)
    assert await done is None


async def test_a_server_serves_in_another_worker_as_the_one_it_was() -> None:
    async with Rig() as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        server.used = True
        server.applied = ((b"search_path", b"a"),)
        before = (server.values, server.pid, server.secret, server.connected_at, server.expires_at)
        released_at, connections = server.released_at, len(rig.fake.conversations)

        moved = await move.over(server)

        assert (moved.values, moved.pid, moved.secret, moved.connected_at, moved.expires_at) == before
        assert (moved.used, moved.applied, moved.released_at) == (
            True,
            ((b"search_path", b"a"),),
            released_at,
        )
        assert moved.address == server.address
        assert moved.host == server.host
        assert moved.id >= 100
        assert move.target.greeting == move.pool.greeting
        assert move.pool.open == 0
        await answers(moved)
        assert len(rig.fake.conversations) == connections
        await move.end()


async def test_what_was_idle_too_long_is_tested_by_its_new_worker() -> None:
    async with Rig(server_check_delay=0, server_check_query="select 2") as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        moved = await move.over(server)
        assert moved.released_at < rig.worker.clock()
        await move.end()


def keep(reason: str) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        match reason:
            case "TLS":
                server.connection.tls = object()  # type: ignore[assignment]
            case "a cancel under way":
                server.cancels = 1
            case "to be closed":
                server.close_needed = ServerClosed.RECONNECT
            case "listening":
                server.listening = True
            case "busy":
                server.status = ord("T")
            case "out of date":
                server.expires_at = 0
            case "owed":
                server.outstanding.queue.append(ord("Q"))
            case "preparing":
                statement = server.pool.statements.find(server.pool.key, TEXT, server.values, (), 0)
                assert statement is not None
                server.statements.add(Preparation(b"howdah_1", statement, 0, 0), 9, 0)

    return change


@pytest.mark.parametrize(
    "reason",
    ["TLS", "a cancel under way", "to be closed", "listening", "busy", "out of date", "owed", "preparing"],
)
async def test_a_server_of_which_something_is_open_stays(reason: str) -> None:
    async with Rig() as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        keep(reason)(server)
        assert move.leave(server) is None
        server.connection.tls = None
        server.cancels = 0
        await move.end()


async def test_what_sessions_leave_behind_is_looked_for_where_it_was_left() -> None:
    async with Rig(audit_release=True) as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        assert move.leave(server) is None
        await move.end()


async def test_a_server_that_has_said_something_unread_stays() -> None:
    async with Rig() as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        server.connection.pause_reading()
        rig.fake.conversations[-1].send(b"N\0\0\0\x05\0")
        sock = server.connection.socket()
        assert sock is not None
        await eventually(lambda: select.select([sock], [], [], 0)[0], "nothing has come")
        assert move.leave(server) is None
        server.connection.resume_reading()
        await move.end()


async def test_what_is_prepared_on_a_server_can_be_used_in_its_new_worker() -> None:
    async with Rig() as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        here = server.pool
        values = here.tracked.parsing(server.values)
        fresh = here.statements.find(here.key, TEXT, values, (), here.database.ddl)
        stale = here.statements.find(here.key, b"select 2\0\0\0", values, (), here.database.ddl)
        assert fresh is not None
        assert stale is not None
        fresh.shape, fresh.parameters = b"shape", b"\0\0"
        stale.verified -= 1
        server.statements.arrived(b"howdah_7", fresh, 5)
        server.statements.arrived(b"howdah_8", stale, 5)
        server.statements.arrived(b"howdah_9", None, 5)

        moved = await move.over(server)

        there = moved.pool
        known = there.statements.find(there.key, TEXT, there.tracked.parsing(moved.values), (), 0)
        assert known is not None
        assert (known.shape, known.parameters) == (b"shape", b"\0\0")
        assert moved.statements.prepared[known].name == b"howdah_7"
        assert moved.statements.prepared[known].confirmed
        assert sorted(moved.statements.doomed) == [b"howdah_8", b"howdah_9"]
        assert moved.statements.crowded
        assert there.statements.next_name() == b"howdah_10"
        await move.end()


async def test_a_statement_whose_rows_look_otherwise_here_is_not_used() -> None:
    async with Rig() as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        for pool, shape in ((move.pool, b"one"), (move.target, b"other")):
            values = pool.tracked.parsing(pool.tracked.intern(server.values))
            statement = pool.statements.find(pool.key, TEXT, values, (), 0)
            assert statement is not None
            statement.shape = shape
            if pool is move.pool:
                server.statements.arrived(b"howdah_7", statement, 5)
        moved = await move.over(server)
        assert not moved.statements.prepared
        assert moved.statements.doomed == (b"howdah_7",)
        await move.end()


@pytest.mark.parametrize("reason", ["settings", "reconnect", "removed"])
async def test_a_server_that_is_out_of_date_where_it_comes_to_is_closed(reason: str) -> None:
    async with Rig() as rig:
        move = Move(rig)
        server = await opened(rig, move.pool)
        cargo = move.leave(server)
        assert cargo is not None
        if reason == "settings":
            entry = {"host": rig.fake.host, "port": rig.fake.port, "dbname": "another"}
            move.there.manager.apply(
                rig.settings.model_validate({**rig.settings.model_dump(), "databases": {"app": entry}})
            )
        elif reason == "reconnect":
            move.there.manager.reconnect(None)
        else:
            move.target.database.dead = True
        moved = move.arrive(cargo)
        await eventually(lambda: not move.target.open)
        assert moved.close_reason is ServerClosed.RECONNECT
        await move.end()


async def test_a_server_that_is_killed_on_its_way_in_gives_its_slot_back() -> None:
    async with Rig() as rig:
        move = Move(rig)
        cargo = move.leave(await opened(rig, move.pool))
        assert cargo is not None
        moved = move.arrive(cargo)
        moved.close(ServerClosed.KILLED)
        await eventually(lambda: not move.target.open)
        assert move.target.leases.take(move.target.key, reserve=False, since=None)
        move.target.leases.give_back(move.target.key)
        await move.end()


class Back:
    """Leases that only take back."""

    def __init__(self) -> None:
        self.given: list[tuple[PoolKey, int]] = []

    def give_back(self, key: PoolKey, inode: int = 0) -> None:
        self.given.append((key, inode))


@pytest.mark.parametrize("what", ["no socket", "no frame", "no cargo", "half a cargo", "odd values"])
async def test_what_comes_and_is_no_server_is_closed_and_its_lease_given_back(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig() as rig:
        move = Move(rig)
        left = move.leave(await opened(rig, move.pool))
        assert left is not None
        data, descriptor = left
        inode = os.fstat(descriptor).st_ino
        match what:
            case "no socket":
                inode = 0
                no_socket = os.open(os.devnull, os.O_RDONLY)
                os.dup2(no_socket, descriptor)
                os.close(no_socket)
            case "no frame":
                data = b"\xff" * 9
            case "no cargo":
                data = encode("a text")
            case "half a cargo":
                data = data[:-1]
            case "odd values":
                ((cargo, _),) = Frames().feed(data, [], cut=False)
                assert isinstance(cargo, Cargo)
                data = encode(replace(cargo, prepared=7, secret=b"secret"))  # type: ignore[arg-type]
        target = move.target
        assert target.leases.take(target.key, reserve=False, since=None)
        back = Back()
        target.leases = back  # type: ignore[assignment]
        move.theirs.unload(target, data, descriptor)
        target.leases = move.there.manager.ledger
        target.leases.give_back(target.key)
        assert back.given == [(target.key, inode)]
        assert (target.open, target.servers[states.LOGIN]) == (0, {})
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        assert "cannot be used" in caplog.text
        assert "secret" not in caplog.text
        await move.end()


async def test_who_waits_for_what_was_no_server_gets_another() -> None:
    async with Rig(default_pool_size=1) as rig:
        move = Move(rig)
        left = move.leave(await opened(rig, move.pool))
        assert left is not None
        target = move.target
        assert target.leases.take(target.key, reserve=False, since=None)
        session = FakeSession(1, target, Clock())
        assert target.checkout(session, move.there.clock()) is None
        assert (session.waits, target.open) == (True, 0)
        move.theirs.unload(target, b"", left[1])
        assert target.open == 1
        session.leaves()
        await move.end()


async def test_a_server_that_postgresql_closes_on_its_way_is_gone() -> None:
    async with Rig() as rig:
        move = Move(rig)
        cargo = move.leave(await opened(rig, move.pool))
        assert cargo is not None
        rig.fake.close()
        move.arrive(cargo)
        await eventually(lambda: not move.target.open)
        await move.end()


def test_a_fingerprint_is_the_same_in_each_process_and_changes_with_the_password() -> None:
    one, other = (make_settings().for_pool("app", "alice") for _ in range(2))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(replace(one, password=Secret(b"a"))) != fingerprint(one)
    assert fingerprint(replace(one, password=Secret(b"a"))) != fingerprint(
        replace(one, password=Secret(b"b"))
    )
    assert fingerprint(replace(one, pool_size=99)) == fingerprint(one)


class FakeMember:
    def __init__(self) -> None:
        self.handlers: dict[type, object] = {}
        self.link = self
        self.sent: list[object] = []
        self.is_full = False

    def send(self, message: object, descriptors: object = ()) -> None:
        if self.is_full and descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.sent.append(message)

    def servers_changed(self) -> None:
        pass


async def test_a_members_leases_hear_what_the_ledger_says() -> None:
    async with Rig() as rig:
        member = FakeMember()
        leases = remote_leases(member, rig.worker.dialler, itertools.count(1))  # type: ignore[arg-type]
        assert set(member.handlers) == {Arrival, Below, Claim, Forget, Grant, Take}
        key = PoolKey("app", "alice")
        receive = member.handlers[Claim]
        assert callable(receive)
        receive(Claim(key, made=True), ())
        assert len(member.sent) == 1
        await asyncio.sleep(2 * LOOK_AGAIN / 1e9)
        receive(Claim(key, made=False), ())
        assert leases.claims() == 0


async def test_a_connection_that_no_copy_can_be_sent_of_still_takes_the_place_of_the_one_before() -> None:
    async with Rig() as rig:
        member = FakeMember()
        remote_leases(member, rig.worker.dialler, itertools.count(1))  # type: ignore[arg-type]
        server = await opened(rig, pool_of(rig))
        member.sent.clear()
        server.inode = 7
        member.is_full = True
        rig.worker.dialler.on_connected(server)
        assert member.sent == [Connected(server.pool.key, 7)]
