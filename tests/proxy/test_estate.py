"""Sockets of servers of a worker that is gone, with PostgreSQL's end of them in the hands of the test."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from proxy import estate as module
from proxy.estate import Estate
from proxy.pool.interfaces import PoolKey
from tests.support.rig import eventually

KEY, OTHER = PoolKey("app", "alice"), PoolKey("app", "bob")


class Backend:
    """PostgreSQL's end, the worker's, and the supervisor's copy of that."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.worker, self.postgres = _tcp_pair() if family == socket.AF_INET else socket.socketpair()
        self.worker.setblocking(False)
        self.postgres.settimeout(5)
        self.inode = os.fstat(self.worker.fileno()).st_ino

    def copy(self) -> int:
        return os.dup(self.worker.fileno())

    def close(self) -> None:
        self.worker.close()
        self.postgres.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
        return one, other


@pytest.fixture(params=[socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = Backend(request.param)
    yield made
    made.close()


class Heirs:
    """What is told of the dead."""

    def __init__(self) -> None:
        self.gone: list[tuple[PoolKey, bool]] = []

    def __call__(self, key: PoolKey, known: bool) -> None:
        self.gone.append((key, known))


async def test_a_server_of_a_dead_worker_is_there_until_postgresql_closes(backend: Backend) -> None:
    estate, heirs = Estate(), Heirs()
    estate.keep("first", KEY, backend.copy())
    backend.worker.close()
    assert estate.died("first", heirs) == [KEY]

    # PostgreSQL, done with its statement, answers, and finds that there is nobody any more.
    answer = b"a row, and all that follows"
    backend.postgres.sendall(answer)
    assert backend.postgres.recv(1) == b""
    (copy,) = estate._orphans
    await eventually(lambda: copy.heard == len(answer))
    assert (estate.orphans, heirs.gone) == (1, [])

    backend.postgres.close()
    await eventually(lambda: heirs.gone == [(KEY, True)])
    assert estate.orphans == 0


async def test_a_server_that_postgresql_had_closed_before_is_gone_at_once(backend: Backend) -> None:
    estate, heirs = Estate(), Heirs()
    estate.keep("first", KEY, backend.copy())
    backend.worker.sendall(b"never read: PostgreSQL resets")
    backend.postgres.close()
    estate.died("first", heirs)
    await eventually(lambda: heirs.gone == [(KEY, True)])


async def test_who_goes_on_sending_is_cut_off(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1000)
    estate, heirs = Estate(), Heirs()
    estate.keep("first", KEY, backend.copy())
    backend.worker.close()
    estate.died("first", heirs)
    backend.postgres.sendall(bytes(1001))
    await eventually(lambda: heirs.gone == [(KEY, False)])
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        backend.postgres.sendall(bytes(10_000_000))


async def test_no_copy_keeps_a_connection_open_whose_server_is_gone(backend: Backend) -> None:
    estate, heirs = Estate(), Heirs()
    estate.keep("first", KEY, backend.copy())
    backend.worker.close()
    estate.drop(backend.inode)
    estate.drop(backend.inode)
    assert backend.postgres.recv(1) == b""
    assert estate.died("first", heirs) == []


async def test_a_server_that_has_moved_is_its_new_workers() -> None:
    one, other = Backend(socket.AF_UNIX), Backend(socket.AF_UNIX)
    estate, heirs = Estate(), Heirs()
    estate.keep("first", KEY, one.copy())
    estate.keep("first", OTHER, other.copy())
    estate.moved(one.inode, "second")
    estate.moved(0, "second")
    assert estate.died("first", heirs) == [OTHER]
    assert estate.died("second", heirs) == [KEY]
    one.close()
    other.close()
    await eventually(lambda: len(heirs.gone) == 2)


async def test_what_is_no_socket_is_closed_and_not_kept() -> None:
    estate = Estate()
    read, write = os.pipe()
    estate.keep("first", KEY, read)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    os.close(write)
    assert estate.died("first", Heirs()) == []


async def test_at_the_end_nothing_is_kept_and_nobody_is_told(backend: Backend) -> None:
    estate, heirs = Estate(), Heirs()
    orphan = Backend(socket.AF_UNIX)
    estate.keep("first", KEY, orphan.copy())
    estate.keep("second", OTHER, backend.copy())
    orphan.worker.close()
    backend.worker.close()
    estate.died("first", heirs)

    estate.close()
    assert backend.postgres.recv(1) == b""
    assert orphan.postgres.recv(1) == b""
    with pytest.raises(BrokenPipeError):
        # The end of file alone is no reason to refuse what comes.
        orphan.postgres.sendall(b"nobody hears this")
    orphan.close()
    await asyncio.sleep(0)
    assert (estate.orphans, estate.died("second", heirs), heirs.gone) == (0, [], [])


async def test_copies_leave_room_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them would have the supervisor accept nobody any more; without one, some time has to do."""
    backend = Backend(socket.AF_UNIX)
    estate, copy = Estate(), backend.copy()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (copy + module.SPARE, 20_000))
    estate.keep("first", KEY, copy)
    assert estate.died("first", Heirs()) == []
    backend.worker.close()
    assert backend.postgres.recv(1) == b""
    backend.close()

    backend = Backend(socket.AF_UNIX)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, -1))
    estate.keep("first", KEY, backend.copy())
    assert estate.died("first", Heirs()) == [KEY]
    backend.close()
