import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from config.settings import Settings
from proxy.listener import ACCEPTS, Listener, ListenError
from tests.support.ports import free_port
from tests.support.rig import eventually


class Accepted(asyncio.Protocol):
    """Counts connections."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)
        transport.close()


def listener() -> tuple[Listener, list[asyncio.BaseTransport]]:
    made: list[asyncio.BaseTransport] = []
    return Listener(lambda: Accepted(made)), made


def settings(**more: object) -> Settings:
    values = {"listen_addr": "127.0.0.1", "listen_port": free_port(), "unix_socket_dir": "", **more}
    return Settings.model_validate(values)


def call(target: tuple[str, int] | str) -> None:
    family = socket.AF_UNIX if isinstance(target, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(5)
        sock.connect(target)


async def dial(target: tuple[str, int] | str) -> None:
    await asyncio.to_thread(call, target)


@pytest.mark.both_loops
async def test_clients_come_by_tcp_and_by_the_unix_socket(tmp_path: Path) -> None:
    known = settings(unix_socket_dir=str(tmp_path))
    doors, made = listener()
    await doors.start(known, [])
    await dial(("127.0.0.1", known.listen_port))
    path = tmp_path / f".s.PGSQL.{known.listen_port}"
    await dial(str(path))
    await eventually(lambda: len(made) == 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o777
    doors.stop()
    assert not path.exists()
    assert not doors.listening
    with pytest.raises(ConnectionRefusedError):
        await dial(("127.0.0.1", known.listen_port))


async def test_the_mode_of_the_unix_socket_is_as_set(tmp_path: Path) -> None:
    known = settings(listen_addr="", unix_socket_dir=str(tmp_path), unix_socket_mode="0700")
    doors, _ = listener()
    await doors.start(known, [])
    path = tmp_path / f".s.PGSQL.{known.listen_port}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    doors.stop()


async def test_stopping_tcp_leaves_the_unix_socket_for_the_console(tmp_path: Path) -> None:
    known = settings(unix_socket_dir=str(tmp_path))
    doors, made = listener()
    await doors.start(known, [])
    doors.stop_tcp()
    with pytest.raises(ConnectionRefusedError):
        await dial(("127.0.0.1", known.listen_port))
    await dial(f"{tmp_path}/.s.PGSQL.{known.listen_port}")
    await eventually(lambda: len(made) == 1)
    doors.stop()


async def test_a_socket_file_left_behind_is_replaced(tmp_path: Path) -> None:
    known = settings(listen_addr="", unix_socket_dir=str(tmp_path))
    path = tmp_path / f".s.PGSQL.{known.listen_port}"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    doors, made = listener()
    await doors.start(known, [])
    await dial(str(path))
    await eventually(lambda: len(made) == 1)
    doors.stop()


async def test_a_socket_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    known = settings(listen_addr="", unix_socket_dir=str(tmp_path))
    path = tmp_path / f".s.PGSQL.{known.listen_port}"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        doors, _ = listener()
        with pytest.raises(ListenError, match="unix socket is in use, cannot continue"):
            await doors.start(known, [])
        assert path.exists()


async def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    known = settings(listen_addr="", unix_socket_dir=str(tmp_path))
    path = tmp_path / f".s.PGSQL.{known.listen_port}"
    path.write_text("precious")
    doors, _ = listener()
    with pytest.raises(ListenError):
        await doors.start(known, [])
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "more",
    [
        {"listen_addr": "", "unix_socket_dir": "/no/such/directory"},
        {"listen_addr": "", "unix_socket_dir": "/tmp/" + "x" * 120},
        {"listen_addr": "198.51.100.1"},
        {"listen_addr": "no-such-host.invalid"},
        {"listen_addr": "bad..name"},
    ],
)
async def test_what_cannot_be_listened_on_is_named(more: dict[str, object]) -> None:
    doors, _ = listener()
    known = settings(**more)
    with pytest.raises(ListenError, match=f"cannot listen on .*{known.listen_port}: "):
        await doors.start(known, [])
    doors.stop()


async def test_a_group_that_does_not_exist_is_named(tmp_path: Path) -> None:
    doors, _ = listener()
    with pytest.raises(ListenError, match="no-such-group"):
        await doors.start(
            settings(listen_addr="", unix_socket_dir=str(tmp_path), unix_socket_group="no-such-group"), []
        )
    doors.stop()
    assert os.listdir(tmp_path) == []


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        doors, _ = listener()
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}"):
            await doors.start(settings(listen_port=port), [])
        doors.stop()


async def test_two_poolers_share_a_port_with_so_reuseport() -> None:
    known = settings(so_reuseport=True)
    one, _ = listener()
    two, _ = listener()
    await one.start(known, [])
    await two.start(known, [])
    one.stop()
    two.stop()


async def test_several_addresses_are_listened_on() -> None:
    known = settings(listen_addr="127.0.0.1,127.0.0.2")
    doors, made = listener()
    await doors.start(known, [])
    for host in known.listen_addr:
        await dial((host, known.listen_port))
    await eventually(lambda: len(made) == 2)
    doors.stop()


async def test_a_star_means_every_address() -> None:
    known = settings(listen_addr="*")
    doors, made = listener()
    await doors.start(known, [])
    await dial(("127.0.0.3", known.listen_port))
    await eventually(lambda: len(made) == 1)
    doors.stop()


async def test_sockets_passed_by_a_service_manager_take_the_place_of_their_kind(tmp_path: Path) -> None:
    passed = socket.create_server(("127.0.0.1", 0))
    known = settings(unix_socket_dir=str(tmp_path))
    doors, made = listener()
    await doors.start(known, [passed])
    await dial(passed.getsockname()[:2])
    await dial(f"{tmp_path}/.s.PGSQL.{known.listen_port}")
    await eventually(lambda: len(made) == 2)
    with pytest.raises(ConnectionRefusedError):
        await dial(("127.0.0.1", known.listen_port))
    doors.stop()


async def test_an_abstract_unix_socket_leaves_no_file() -> None:
    directory = f"@howdah-test-{os.getpid()}"
    known = settings(listen_addr="", unix_socket_dir=directory)
    doors, made = listener()
    await doors.start(known, [])
    await dial(f"\0{directory[1:]}/.s.PGSQL.{known.listen_port}")
    await eventually(lambda: len(made) == 1)
    doors.stop()


@pytest.mark.both_loops
async def test_a_turn_of_the_loop_accepts_some_of_a_crowd_and_the_kernel_keeps_the_others() -> None:
    known = settings(listen_backlog=200, tcp_defer_accept=0)
    doors, made = listener()
    await doors.start(known, [])
    crowd = [socket.socket() for _ in range(150)]
    try:
        for sock in crowd:
            # Nothing turns the loop meanwhile: all of them stand in the kernel's queue.
            sock.settimeout(5)
            sock.connect(("127.0.0.1", known.listen_port))
        turns = []
        while len(made) < len(crowd):
            before = len(made)
            await asyncio.sleep(0)
            turns.append(len(made) - before)
            assert len(turns) < 1_000
        # Its protocols hear of their connections in the turn behind.
        assert max(turns) <= 2 * ACCEPTS
    finally:
        for sock in crowd:
            sock.close()
        doors.stop()
