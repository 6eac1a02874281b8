"""The entrance: who gets which client, and what becomes of those whom nobody has taken over yet."""

import asyncio
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from config.settings import Settings
from proxy import entrance
from proxy.announcements import Adopt
from proxy.binding import Binding
from proxy.entrance import Entrance
from proxy.frames import Frames, receive_once
from proxy.handle import WorkerHandle
from proxy.link import Link
from proxy.roster import Roster
from tests.support.ports import free_port
from tests.support.rig import eventually


class Porch:
    """An entrance with workers that are no more than the ends of their links."""

    def __init__(self, count: int = 2) -> None:
        self.port = free_port()
        self.settings = Settings.model_validate(
            {
                "listen_addr": "127.0.0.1",
                "listen_port": self.port,
                "unix_socket_dir": "",
                "tcp_defer_accept": "0",
            }
        )
        self.roster = Roster(count)
        self.handles: dict[int, WorkerHandle] = {}
        self.ends: dict[int, socket.socket] = {}
        self.frames: dict[int, Frames] = {}
        self.binding = Binding()
        self.binding.bind(self.settings, [])
        self.entrance = Entrance(self.binding, self.roster, self.handles)
        self.entrance.listen(self.settings)
        self._stack = ExitStack()

    def serve(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        handle = WorkerHandle(number, ours, 0, lambda *_: None, lambda _: None)
        handle.link.start()
        self.handles[number] = handle
        self.ends[number] = theirs
        self.frames[number] = Frames()
        self.roster.started(number, 0.0)
        self.roster.serves(number, 0.0)
        self.entrance.resume()

    def lose(self, number: int) -> None:
        handle = self.handles.pop(number)
        handle.link.close()
        self.ends.pop(number).close()
        self.roster.lost(number)
        self.entrance.lost(handle)

    def adopted(self, number: int, count: int) -> None:
        self.roster.counted(number, count, count, 0, 0.0)
        self.entrance.adopted(self.handles[number], count)

    def knock(self) -> socket.socket:
        client = self._stack.enter_context(socket.create_connection(("127.0.0.1", self.port), 5))
        client.setblocking(False)
        return client

    def given(self, number: int) -> list[tuple[Adopt, socket.socket]]:
        """The clients that have come for this worker since."""
        came = []
        try:
            while True:
                for message, (descriptor,) in self.frames[number].feed(*receive_once(self.ends[number])):
                    assert isinstance(message, Adopt)
                    came.append((message, self._stack.enter_context(socket.socket(fileno=descriptor))))
        except BlockingIOError:
            return came

    def close(self) -> None:
        for number in list(self.handles):
            self.lose(number)
        self.entrance.close()
        self._stack.close()


@pytest.fixture
async def porch() -> AsyncIterator[Porch]:
    porch = Porch()
    yield porch
    porch.close()


@pytest.mark.both_loops
async def test_clients_go_to_who_has_the_fewest_with_nothing_read(porch: Porch) -> None:
    porch.serve(1)
    porch.serve(2)
    clients = [porch.knock() for _ in range(6)]
    for client in clients:
        client.send(b"hello")
    await eventually(lambda: sum(place.clients for place in porch.roster) == 6)
    first, second = porch.given(1), porch.given(2)
    assert (len(first), len(second)) == (3, 3)
    for _, sock in first + second:
        sock.setblocking(True)
        sock.settimeout(5)
        assert sock.recv(9) == b"hello"
    assert [adopt.others for adopt, _ in first + second] == [0, 1, 2, 1, 2, 3]


async def test_without_workers_clients_wait_in_the_kernel(porch: Porch) -> None:
    porch.knock()
    await asyncio.sleep(0.02)
    assert porch.roster.empty
    porch.serve(1)
    await eventually(lambda: porch.roster.places[1].clients == 1)


async def test_who_was_not_taken_over_goes_to_another(porch: Porch) -> None:
    porch.serve(1)
    client = porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)
    porch.serve(2)
    porch.lose(1)
    await eventually(lambda: porch.roster.places[2].clients == 1)
    ((_, sock),) = porch.given(2)
    client.send(b"still here")
    sock.settimeout(5)
    assert sock.recv(16) == b"still here"


async def test_who_was_not_taken_over_waits_where_there_is_nobody(porch: Porch) -> None:
    porch.serve(1)
    porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)
    porch.lose(1)
    assert porch.roster.choose(0.0, lambda _: True) is None
    porch.serve(2)
    assert len(porch.given(2)) == 1


async def test_who_was_taken_over_is_lost_with_the_worker(porch: Porch) -> None:
    porch.serve(1)
    porch.serve(2)
    client = porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)
    ((_, taken),) = porch.given(1)
    porch.adopted(1, 1)
    porch.lose(1)
    taken.close()
    await eventually(lambda: ended(client))
    assert porch.given(2) == []


async def test_whom_a_worker_that_talks_nonsense_may_have_read_nobody_else_gets(porch: Porch) -> None:
    porch.serve(1)
    client = porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)
    ((_, given),) = porch.given(1)
    given.close()
    porch.ends[1].sendall(b"\xff" * 9)
    await eventually(lambda: porch.handles[1].link.closed)
    porch.serve(2)
    porch.lose(1)
    await eventually(lambda: ended(client))
    assert porch.given(2) == []


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


async def test_what_was_taken_over_is_not_kept_open_here(porch: Porch) -> None:
    porch.serve(1)
    before = len(os.listdir("/proc/self/fd"))
    clients = [porch.knock() for _ in range(10)]
    await eventually(lambda: porch.roster.places[1].clients == 10)
    for _, sock in porch.given(1):
        sock.close()
    assert len(os.listdir("/proc/self/fd")) == before + 20
    porch.adopted(1, 4)
    assert len(os.listdir("/proc/self/fd")) == before + 16
    porch.adopted(1, 10)
    assert len(os.listdir("/proc/self/fd")) == before + len(clients)


async def test_a_worker_whose_link_is_full_gets_nobody_and_then_nobody_is_accepted(porch: Porch) -> None:
    porch.serve(1)
    porch.handles[1].link.send(b"x" * 1_000_000)
    porch.serve(2)
    clients = [porch.knock() for _ in range(4)]
    await eventually(lambda: porch.roster.places[2].clients == len(clients))
    porch.handles[2].link.send(b"x" * 1_000_000)
    porch.knock()
    await asyncio.sleep(0.02)
    assert sum(place.clients for place in porch.roster) == 4
    # It reads again.
    read = 0
    while read < 1_000_000:
        try:
            read += len(porch.ends[1].recv(65536))
        except BlockingIOError:
            await asyncio.sleep(0)
    await eventually(lambda: not porch.handles[1].link.unsent)
    porch.entrance.resume()
    await eventually(lambda: porch.roster.places[1].clients == 1)


async def test_a_worker_without_room_for_descriptors_gets_nobody(
    porch: Porch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (entrance.SPARE + 10, entrance.SPARE + 10))
    porch.serve(1)
    porch.handles[1].servers = 7
    for _ in range(5):
        porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 3)
    await asyncio.sleep(0.02)
    assert porch.roster.places[1].clients == 3
    porch.serve(2)
    await eventually(lambda: porch.roster.places[2].clients == 2)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    porch.knock()
    await eventually(lambda: sum(place.clients for place in porch.roster) == 6)


class Broken:
    """A listening socket of which accept fails."""

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._sock = sock
        self._errors = list(errors)
        self.calls = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        self.calls += 1
        if self._errors:
            number = self._errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._sock.accept()

    def close(self) -> None:
        self._sock.close()


async def test_without_descriptors_of_our_own_nobody_is_accepted_for_a_moment(
    porch: Porch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(entrance, "_PAUSE", 0.05)
    broken = Broken(porch.binding.tcp[0], errno.EMFILE, errno.EMFILE)
    porch.binding.tcp[0] = broken  # type: ignore[call-overload]
    porch.serve(1)
    porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)
    assert broken.calls == 4
    assert caplog.text.count("no clients are accepted for a moment: Too many open files") == 1


async def test_descriptors_that_come_free_are_used_at_once(
    porch: Porch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "_PAUSE", 1000.0)
    porch.serve(1)
    porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)
    porch.binding.tcp[0] = Broken(porch.binding.tcp[0], errno.EMFILE)  # type: ignore[call-overload]
    porch.entrance._pause()
    porch.entrance.resume()
    porch.knock()
    await eventually(lambda: porch.entrance._exhausted is not None)
    # A report without anything new frees nothing.
    porch.adopted(1, 0)
    assert porch.entrance._exhausted is not None
    porch.adopted(1, 1)
    await eventually(lambda: porch.roster.places[1].clients == 2)


async def test_who_has_gone_before_he_was_accepted_keeps_nobody_waiting(porch: Porch) -> None:
    porch.binding.tcp[0] = Broken(porch.binding.tcp[0], errno.ECONNABORTED)  # type: ignore[call-overload]
    porch.serve(1)
    porch.knock()
    await eventually(lambda: porch.roster.places[1].clients == 1)


async def test_closing_tcp_refuses_newcomers(porch: Porch) -> None:
    porch.serve(1)
    assert porch.entrance.listening
    porch.entrance.close_tcp()
    with pytest.raises(ConnectionRefusedError):
        porch.knock()
    assert not porch.entrance.listening


async def test_without_room_to_queue_a_client_it_waits_here(
    porch: Porch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrance, "_PAUSE", 0.05)
    porch.serve(1)
    clients = [porch.knock() for _ in range(2)]
    await eventually(lambda: porch.roster.places[1].clients == 2)
    porch.lose(1)
    sends = []

    def fail(self: Link, *_: object) -> None:
        sends.append(1)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(Link, "send", fail)
        porch.serve(1)
        assert len(sends) == 1
        porch.knock()
        await eventually(lambda: len(sends) == 2)
        assert porch.roster.places[1].clients == 0
    await eventually(lambda: porch.roster.places[1].clients == 3)
    came = [sock.getpeername() for _, sock in porch.given(1)]
    assert came[:2] == [client.getsockname() for client in clients]
