"""The template: what it forks is whole and has nothing of the process it came from."""

import contextlib
import fcntl
import gc
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from proxy import template
from proxy.announcements import Fork, Forked, NotForked, Reaped
from proxy.frames import Frames, encode, receive_once, send_once
from proxy.signals import ORDERS

DEADLINE = 10


@dataclass
class Started:
    """A template and our end of its link."""

    pid: int
    sock: socket.socket
    frames: Frames

    def fork(self, number: int) -> socket.socket:
        """Our end of the new worker's link."""
        ours, theirs = socket.socketpair()
        with theirs:
            send_once(self.sock, encode(Fork(number), 1), [theirs.fileno()])
        ours.settimeout(DEADLINE)
        return ours

    def hear(self) -> list[object]:
        while True:
            found = self.frames.feed(*receive_once(self.sock))
            if found:
                return [message for message, _ in found]


def become(sock: socket.socket) -> int:
    """What the workers of these tests do: they say what they are asked for, and end as they are told."""
    with sock:
        while word := sock.recv(64):
            if word.startswith(b"exit"):
                return int(word[4:])
            if word == b"raise":
                raise ValueError("as told")
            sock.sendall(ANSWERS[word]().encode())
    return 0


def descriptors() -> str:
    found = []
    for name in os.listdir("/proc/self/fd"):
        # The folder itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            found.append(f"{name}:{os.readlink(f'/proc/self/fd/{name}')}")
    return " ".join(name for name in found if int(name.split(":")[0]) > 2)


def ignored() -> str:
    return str(all(signal.getsignal(number) is signal.SIG_IGN for number in template.IGNORED))


ANSWERS: dict[bytes, Callable[[], str]] = {
    b"pid": lambda: str(os.getpid()),
    b"parent": lambda: str(os.getppid()),
    b"descriptors": descriptors,
    b"ignored": ignored,
    b"child": lambda: str(signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL),
    b"collector": lambda: str(gc.isenabled()),
    b"masked": lambda: str(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
}


@pytest.fixture
def started() -> Iterator[Started]:
    pid, sock = template.start(become)
    sock.settimeout(DEADLINE)
    yield Started(pid, sock, Frames())
    sock.close()
    assert os.waitpid(pid, 0) == (pid, 0)


def ask(worker: socket.socket, word: bytes) -> str:
    worker.sendall(word)
    return worker.recv(4096).decode()


def test_a_worker_is_the_templates_child_and_is_reported(started: Started) -> None:
    with started.fork(7) as worker:
        pid = int(ask(worker, b"pid"))
        assert started.hear() == [Forked(7, pid)]
        assert int(ask(worker, b"parent")) == started.pid
    assert started.hear() == [Reaped(pid, 0)]


def test_a_worker_has_no_descriptor_but_its_own(started: Started) -> None:
    before = set(descriptors().split())
    with started.fork(1) as first, started.fork(2) as second:
        for worker in (first, second):
            found = ask(worker, b"descriptors").split()
            assert before.isdisjoint(found)
            # Its end of the link; libraries may have pipes of their own.
            assert len([name for name in found if "pipe:" not in name]) == 1, found


def test_what_a_library_has_opened_at_the_fork_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """libuv closes its pipe for signals in a forked process and makes another, of the same numbers."""
    reading, writing = os.pipe()
    fork = os.fork

    def fork_as_with_libuv() -> int:
        nonlocal reading, writing
        pid = fork()
        if pid == 0:
            for end in (reading, writing):
                os.fstat(end)
                os.close(end)
            reading, writing = os.pipe()
        return pid

    monkeypatch.setattr(os, "fork", fork_as_with_libuv)
    pid, sock = template.start(become)
    sock.settimeout(DEADLINE)
    for number in range(3):
        with Started(pid, sock, Frames()).fork(number) as worker:
            assert ask(worker, b"parent") == str(pid)
    for ours in (reading, writing):
        os.close(ours)
    sock.close()
    assert os.waitpid(pid, 0) == (pid, 0)


def test_a_template_may_be_made_anew_by_a_supervisor_with_many_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One for each server of all workers: what select() is given must be below 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    make = socket.socketpair

    def make_high() -> tuple[socket.socket, socket.socket]:
        monkeypatch.undo()
        ends = make()
        high = [socket.socket(fileno=fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 1500)) for end in ends]
        for end in ends:
            end.close()
        return high[0], high[1]

    monkeypatch.setattr(socket, "socketpair", make_high)
    try:
        pid, sock = template.start(become)
        assert sock.fileno() >= 1500
        sock.settimeout(DEADLINE)
        with Started(pid, sock, Frames()).fork(1) as worker:
            assert ask(worker, b"parent") == str(pid)
        sock.close()
        assert os.waitpid(pid, 0) == (pid, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_workers_hear_no_signal_that_ends_the_daemon(started: Started) -> None:
    with started.fork(1) as worker:
        assert ask(worker, b"ignored") == "True"
        assert ask(worker, b"child") == "True"
        assert ask(worker, b"collector") == "True"
        assert ask(worker, b"masked") == str(set())


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_of_a_worker_is_reported(started: Started, code: int) -> None:
    with started.fork(1) as worker:
        worker.sendall(b"exit%d" % code)
        assert worker.recv(1) == b""
        heard = started.hear()
        while not isinstance(heard[-1], Reaped):
            heard += started.hear()
    assert os.waitstatus_to_exitcode(heard[-1].status) == code


def test_a_worker_that_fails_ends_with_code_1(started: Started) -> None:
    with started.fork(1) as worker:
        worker.sendall(b"raise")
        assert worker.recv(1) == b""
        heard = started.hear()
        while not isinstance(heard[-1], Reaped):
            heard += started.hear()
    assert os.waitstatus_to_exitcode(heard[-1].status) == 1


def test_where_no_process_can_be_made_the_link_has_no_other_end_and_the_template_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fork, forks = os.fork, []

    def fail_at_second() -> int:
        forks.append(1)
        if len(forks) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", fail_at_second)
    pid, sock = template.start(become)
    sock.settimeout(DEADLINE)
    started = Started(pid, sock, Frames())
    with started.fork(1) as first:
        assert first.recv(1) == b""
    assert started.hear() == [NotForked(1, "Resource temporarily unavailable")]
    with started.fork(2) as second:
        assert ask(second, b"parent") == str(pid)
    sock.close()
    assert os.waitpid(pid, 0) == (pid, 0)


def test_a_worker_outlives_the_template(started: Started) -> None:
    with started.fork(1) as worker:
        pid = ask(worker, b"pid")
        started.hear()
        started.sock.shutdown(socket.SHUT_RDWR)
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        assert ask(worker, b"pid") == pid


def test_what_the_supervisor_takes_as_an_order_is_not_for_the_template() -> None:
    assert set(template.IGNORED) == set(ORDERS)


def test_a_template_that_hears_nonsense_ends(started: Started) -> None:
    started.sock.sendall(b"\xff" * 16)
    os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
