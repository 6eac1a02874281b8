"""Clients that end up on the console, and what else a client is told by others than its server."""

import os
import socket
import struct
from pathlib import Path

import pytest

from proxy.client import WAITING_NOTICE, Client
from proxy.reasons import ClientClosed
from tests.support import messages as m
from tests.support.rig import Peer, Rig, eventually
from tests.support.running import Running


class Recorder:
    """Stands in for a console."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def receive(self, data: bytes) -> None:
        self.told.append(data)

    def lost(self) -> None:
        self.told.append("lost")

    async def settled(self) -> None:
        pass

    def cancel(self) -> None:
        self.told.append("cancel")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


async def on_console(rig: Rig) -> tuple[Peer, Client, Recorder]:
    recorder = Recorder()
    rig.worker.lobby.open_console = lambda client, user, own: (recorder, {b"server_version": b"1"})
    peer = await rig.client(database="pgbouncer")
    (client,) = rig.worker.lobby.clients.values()
    return peer, client, recorder


async def test_what_a_client_says_goes_to_its_console() -> None:
    async with Rig() as rig:
        peer, _, recorder = await on_console(rig)
        assert peer.parameters == {"server_version": "1"}
        peer.send(m.query("show pools"))
        await eventually(lambda: recorder.told)
        assert recorder.told == [m.query("show pools")]
        assert rig.worker.lobby.ordinary_clients() == 0


async def test_what_was_sent_ahead_of_the_welcome_is_not_lost() -> None:
    async with Rig() as rig:
        recorder = Recorder()
        rig.worker.lobby.open_console = lambda client, user, own: (recorder, {})
        peer = await rig.connect()
        startup = m.startup({"user": "alice", "database": "howdah"})
        peer.send(startup, m.query("x" * 70_000))
        await peer.welcome()
        peer.send(m.query("2"))
        await eventually(
            lambda: b"".join(one for one in recorder.told if isinstance(one, bytes)).endswith(b"2\0")
        )
        assert recorder.told[0] == m.query("x" * 70_000)[: len(recorder.told[0])]  # type: ignore[arg-type]


async def test_a_console_hears_of_full_buffers_cancels_and_the_end() -> None:
    async with Rig() as rig:
        peer, client, recorder = await on_console(rig)
        client.connection.pause_writing()
        client.connection.resume_writing()
        canceller = await rig.connect()
        canceller.send(m.cancel_request(*peer.key))
        assert await canceller.rest() == b""
        peer.reset()
        await eventually(lambda: "lost" in recorder.told)
        assert recorder.told == ["pause", "resume", "cancel", "lost"]


async def test_the_system_user_needs_no_password_on_the_unix_socket(tmp_path: Path) -> None:
    async with Running(tmp_path, auth_type="plain") as running:
        peer = await running.by_unix_socket("pgbouncer", user="pgbouncer")
        assert m.errors(await peer.ask("show version")) == []


@pytest.mark.parametrize(("user", "database"), [("pgbouncer", "app"), ("alice", "pgbouncer")])
async def test_the_back_door_is_for_one_user_and_the_console_alone(
    tmp_path: Path, user: str, database: str
) -> None:
    async with Running(tmp_path, auth_type="plain") as running:
        peer = await running.connect_by_unix_socket()
        peer.send(m.startup({"user": user, "database": database}))
        assert (await peer.password()).body == m.int32(3)


async def test_the_back_door_is_closed_by_tcp_and_for_other_system_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Running(tmp_path, auth_type="plain") as running:
        peer = await running.connect()
        peer.send(m.startup({"user": "pgbouncer", "database": "pgbouncer"}))
        await peer.password()
        stranger = struct.pack("3i", 1, os.getuid() + 1, 1)
        monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: stranger)
        peer = await running.connect_by_unix_socket()
        peer.send(m.startup({"user": "pgbouncer", "database": "pgbouncer"}))
        await peer.password()


async def test_the_back_door_is_closed_where_everybodys_number_might_be_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.identity.overflow_uid", os.getuid)
    async with Running(tmp_path, auth_type="plain") as running:
        peer = await running.connect_by_unix_socket()
        peer.send(m.startup({"user": "pgbouncer", "database": "pgbouncer"}))
        await peer.password()


async def test_a_client_that_waits_is_told_so() -> None:
    async with Rig() as rig:
        peer = await rig.client()
        (client,) = rig.worker.lobby.clients.values()
        client.notify_waiting()
        notice = await peer.read()
        assert notice.tag == b"N"
        assert m.fields_of(notice.body)["M"] == WAITING_NOTICE


async def test_a_fault_of_ours_ends_one_client_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig() as rig:
        peer, other = await rig.client(), await rig.client()
        client = next(iter(rig.worker.lobby.clients.values()))
        client.failed(ZeroDivisionError())
        error = await peer.error()
        assert (error["C"], error["M"]) == ("XX000", "internal error")
        assert rig.worker.lobby.closed_clients == {ClientClosed.INTERNAL: 1}
        assert m.rows(await other.ask("1")) == [["1"]]


async def test_a_client_that_is_ended_within_its_login_takes_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Rig() as rig:
        lobby = rig.worker.lobby

        def ended(_: str) -> bytes:
            (client,) = lobby.clients.values()
            client.finish(None, ClientClosed.TLS)
            return b"key"

        monkeypatch.setattr(lobby.mock_keys, "of", ended)
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: lobby.closed_clients[ClientClosed.TLS] == 1)
        assert rig.worker.manager.user("alice").clients == 0
        assert not rig.worker.manager.pools


async def test_a_fault_of_ours_during_a_login_is_logged_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rig() as rig:

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(rig.worker.lobby.mock_keys, "of", broken)
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        assert (await peer.error())["C"] == "XX000"
        assert len(rig.errors) == 1
        assert "internal error during login" in rig.errors.pop()
