"""User, limits, pid file, background, service manager; what forks runs in a process of its own."""

import json
import os
import pwd
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import process
from proxy.process import FdLimit, PidFile, ProcessError


def run_apart(code: str, *arguments: str) -> object:
    """Run Python source in a process of its own; what it writes as JSON to descriptor `out` comes back.

    Reading to the end of the pipe waits for every process that still holds it, a daemon too.
    """
    reader, writer = os.pipe()
    head = f"import json, os, sys\nfrom proxy import process\nout = {writer}\n"
    with open(reader, encoding="utf-8") as result:
        try:
            command = [sys.executable, "-c", head + code, *arguments]
            subprocess.run(command, pass_fds=[writer], check=True, timeout=30)
        finally:
            os.close(writer)
        return json.loads(result.read())


# --- descriptors


def test_the_soft_limit_of_this_kernel_is_raised() -> None:
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
limits = process.raise_fd_limit()
os.write(out, json.dumps([limits.soft > 64, limits.hard == hard]).encode())
"""
    assert run_apart(code) == [True, True]


class FakeLimits:
    """RLIMIT_NOFILE of a kernel that refuses a soft limit above `most`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, most: int) -> None:
        self.limits = (soft, hard)
        self.most = most
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.limits)
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, _: int, limits: tuple[int, int]) -> None:
        soft, _hard = limits
        if soft == resource.RLIM_INFINITY or soft > self.most:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


def test_without_a_hard_limit_a_generous_one_is_taken_where_infinity_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    FakeLimits(monkeypatch, 1024, resource.RLIM_INFINITY, 1_000_000)
    assert process.raise_fd_limit() == FdLimit(65_536, resource.RLIM_INFINITY)


def test_a_kernel_that_refuses_leaves_the_limit_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeLimits(monkeypatch, 1024, 4096, 1024)
    assert process.raise_fd_limit() == FdLimit(1024, 4096)


def test_the_limit_is_asked_for_as_high_as_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeLimits(monkeypatch, 1024, 4096, 1_000_000)
    assert process.raise_fd_limit() == FdLimit(4096, 4096)


def test_a_limit_already_at_its_height_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeLimits(monkeypatch, 4096, 4096, 0)
    assert process.raise_fd_limit() == FdLimit(4096, 4096)


# --- users


def test_an_unknown_user_is_refused() -> None:
    with pytest.raises(ProcessError, match="could not find user 'no-such-user' to switch to"):
        process.become_user("no-such-user")


def test_becoming_who_one_is_changes_nothing() -> None:
    before = (os.getuid(), os.getgid(), os.getgroups())
    process.become_user(pwd.getpwuid(os.getuid()).pw_name)
    assert (os.getuid(), os.getgid(), os.getgroups()) == before


def test_root_becomes_another_user_for_good_and_others_are_refused() -> None:
    code = """
try:
    process.become_user(sys.argv[1])
    result = [os.getuid(), os.geteuid(), os.getgid(), sorted(os.getgroups()), process.is_root()]
    try:
        os.setuid(0)
    except PermissionError:
        result.append("no way back")
except process.ProcessError as exc:
    result = str(exc)
os.write(out, json.dumps(result).encode())
"""
    other = next(entry for entry in pwd.getpwall() if entry.pw_uid not in (0, os.getuid()))
    result = run_apart(code, other.pw_name)
    if process.is_root():
        groups = sorted(os.getgrouplist(other.pw_name, other.pw_gid))
        assert result == [other.pw_uid, other.pw_uid, other.pw_gid, groups, False, "no way back"]
    else:
        assert result == f"could not switch to user '{other.pw_name}': Operation not permitted"


def test_a_switch_that_did_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 123_456)
    for name in ("initgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *_: None)
    with pytest.raises(ProcessError, match="the old one is still there"):
        process.become_user("nobody")


# --- background


def test_a_daemon_has_a_session_without_terminal_and_no_standard_streams(tmp_path: Path) -> None:
    code = """
before = os.getpid()
process.daemonize()
null = os.stat(os.devnull).st_rdev
os.write(out, json.dumps({
    "moved": os.getpid() != before,
    "leads its session": os.getsid(0) == os.getpid(),
    "left the session": os.getsid(0) != int(sys.argv[1]),
    "streams on /dev/null": [os.fstat(fd).st_rdev == null for fd in (0, 1, 2)],
    "directory": os.getcwd(),
}).encode())
"""
    assert run_apart(code, str(os.getsid(0))) == {
        "moved": True,
        "leads its session": False,
        "left the session": True,
        "streams on /dev/null": [True, True, True],
        "directory": os.getcwd(),
    }


# --- pid file


@pytest.fixture
def dead_pid() -> int:
    """The id of a process that has just ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_pid_file_holds_our_process_id_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "howdah.pid"
    file = PidFile(str(path))
    file.create()
    assert path.read_text() == f"{os.getpid()}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["howdah.pid"]
    file.remove()
    assert not path.exists()


def test_a_pid_file_of_a_living_process_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "howdah.pid"
    path.write_text(f"{os.getppid()}\n")
    for attempt in (PidFile(str(path)).check, PidFile(str(path)).create):
        with pytest.raises(ProcessError, match=rf"howdah\.pid' exists and process {os.getppid()} runs"):
            attempt()
    assert path.read_text() == f"{os.getppid()}\n"


def test_a_process_of_another_user_counts_as_living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbidden)
    path = tmp_path / "howdah.pid"
    path.write_text("1\n")
    with pytest.raises(ProcessError, match="process 1 runs"):
        PidFile(str(path)).check()


@pytest.mark.parametrize("content", ["{dead}\n", "", "99999999999999999999\n", "{own}\n"])
def test_a_stale_pid_file_is_replaced(tmp_path: Path, dead_pid: int, content: str) -> None:
    path = tmp_path / "howdah.pid"
    path.write_text(content.format(dead=dead_pid, own=os.getpid()))
    PidFile(str(path)).create()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_that_is_no_pid_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ProcessError, match="holds no process id"):
        PidFile(str(path)).create()
    assert path.read_text() == "data"
    assert [entry.name for entry in tmp_path.iterdir()] == ["precious"]


def test_a_pid_file_that_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"could not write pidfile .* No such file or directory"):
        PidFile(str(tmp_path / "no" / "howdah.pid")).create()
    with pytest.raises(ProcessError, match=r"could not read pidfile .* Is a directory"):
        PidFile(str(tmp_path)).check()


def test_a_pid_file_of_another_instance_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "howdah.pid"
    path.write_text("1\n")
    PidFile(str(path)).remove()
    assert path.exists()
    PidFile(str(tmp_path / "none")).remove()


def test_a_pid_file_keeps_its_place_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = PidFile("howdah.pid")
    monkeypatch.chdir("/")
    file.create()
    assert (tmp_path / "howdah.pid").exists()


# --- service manager


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    """The socket of a service manager, on a path and with an abstract name."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@howdah-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        listener.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listener


def test_the_service_manager_is_told_of_every_change(manager: socket.socket) -> None:
    assert process.notify_ready()
    assert manager.recv(1000) == f"READY=1\nMAINPID={os.getpid()}".encode()
    assert process.notify_ready("2 pools")
    assert manager.recv(1000) == f"READY=1\nMAINPID={os.getpid()}\nSTATUS=2 pools".encode()
    assert process.notify_status("stats: 0 xacts/s")
    assert manager.recv(1000) == b"STATUS=stats: 0 xacts/s"
    assert process.notify_stopping()
    assert manager.recv(1000) == b"STOPPING=1"


def test_a_reload_is_announced_with_the_monotonic_clock(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.clock_gettime_ns", lambda clock: 12_345_678)
    assert process.notify_reloading()
    assert manager.recv(1000) == b"RELOADING=1\nMONOTONIC_USEC=12345"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/no/such/socket"])
def test_without_a_service_manager_nothing_is_told_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not process.notify("READY=1")


def passed(count: int, pid: int | None = None) -> dict[str, str]:
    own = os.getpid() if pid is None else pid
    return {"LISTEN_PID": str(own), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "a:b", "PATH": "/bin"}


def test_passed_sockets_are_taken_over_once(tmp_path: Path) -> None:
    tcp = socket.create_server(("127.0.0.1", 0))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "s"))
    unix.listen()
    first = 200
    os.dup2(tcp.fileno(), first, inheritable=True)
    os.dup2(unix.fileno(), first + 1, inheritable=True)
    environ = passed(2)
    taken = process.passed_sockets(environ, first)
    try:
        assert [each.fileno() for each in taken] == [first, first + 1]
        assert [each.family for each in taken] == [socket.AF_INET, socket.AF_UNIX]
        assert [each.getsockname() for each in taken] == [tcp.getsockname(), unix.getsockname()]
        assert not any(each.getblocking() or each.get_inheritable() for each in taken)
        assert environ == {"PATH": "/bin"}
        assert process.passed_sockets(environ, first) == []
    finally:
        for each in (*taken, tcp, unix):
            each.close()


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_FDS": "1"}, passed(1, pid=1), passed(1) | {"LISTEN_FDS": "x"}]
)
def test_descriptors_meant_for_another_process_are_left_alone(environ: dict[str, str]) -> None:
    assert process.passed_sockets(environ, 0) == []
    assert "LISTEN_FDS" not in environ


def test_a_passed_descriptor_that_is_no_listening_socket_is_refused() -> None:
    reader, writer = os.pipe()
    with pytest.raises(ProcessError, match=f"passed descriptor {reader} is no socket"):
        process.passed_sockets(passed(1), reader)
    os.close(reader)
    os.close(writer)
    with socket.socket() as idle:
        with pytest.raises(ProcessError, match="is no listening stream socket"):
            process.passed_sockets(passed(1), idle.fileno())
        assert idle.getsockname()


def test_running_out_of_descriptors_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    watch = process.DescriptorWatch()
    minute = 60_000_000_000
    assert not watch.look(83, 0)
    assert watch.look(84, 0)
    assert not watch.look(84, minute - 1)
    assert watch.look(84, minute)


def test_without_a_limit_descriptors_do_not_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not process.DescriptorWatch().look(1_000_000, 0)
