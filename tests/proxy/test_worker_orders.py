"""Orders and settings, carried out by a worker without sockets; and who may come to the console."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.problems import ConfigError, NotChangeable, UnknownSetting
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.rig import PATIENCE, Rig, eventually
from tests.support.running import process_as_before
from tests.support.script import Conversation, FakeServer


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    with process_as_before():
        yield


async def test_set_changes_one_setting_at_once() -> None:
    async with Rig() as rig:
        await rig.client()
        await rig.worker.set_setting("query_timeout", "9")
        (pool,) = rig.worker.manager.pools.values()
        assert pool.settings.query_timeout == 9
        assert rig.worker.manager.settings.pool_mode == "transaction"
        await rig.worker.set_setting("max_packet_size", "20000")
        assert max(rig.worker.lobby.frontend_caps) == 20_000


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("no_such_key", "1", UnknownSetting),
        ("listen_port", "1", NotChangeable),
        ("query_timeout", "soon", ConfigError),
        ("logfile", "/no/such/directory/log", ConfigError),
    ],
)
async def test_set_of_what_cannot_be_changes_nothing(key: str, value: str, kind: type[Exception]) -> None:
    async with Rig() as rig:
        before = rig.worker.manager.settings
        with pytest.raises(kind):
            await rig.worker.set_setting(key, value)
        assert rig.worker.manager.settings is before


async def test_a_reload_that_fails_leaves_tls_as_it_was(tmp_path: Path, pki: Pki) -> None:
    """Also where the files from before are no longer what they were: that may be why there is a reload."""
    authority = tmp_path / "ca.crt"
    authority.write_bytes(pki.ca.read_bytes())
    entry = {"host": "127.0.0.1", "sslmode": "verify-ca", "sslrootcert": str(authority)}
    async with Rig(databases={"app": entry}) as rig:
        changed = tmp_path / "changed.ini"
        changed.write_text(
            "[databases]\napp = host=127.0.0.1 sslmode=require\n"
            f"[pgbouncer]\nserver_tls_protocols = tlsv1.2\nlogfile = {tmp_path}/nowhere/log\n"
        )
        tls = rig.worker.manager.settings.for_pool("app", "alice").tls
        context = rig.worker.dialler.contexts(tls)
        assert context is not None
        await rig.worker.set_setting("conffile", str(changed))
        authority.unlink()
        with pytest.raises(ConfigError, match="could not open the log"):
            await rig.worker.reload()
        assert rig.worker.dialler.contexts(tls) is context
        assert [text for text in rig.errors if "could not open the log" not in text] == []
        rig.errors.clear()


# Orders.


async def test_databases_are_known_by_name_or_made_from_the_star() -> None:
    async with Rig() as rig:
        assert rig.worker.has_database("app")
        assert not rig.worker.has_database("nowhere")
    async with Rig(databases={"*": {"host": "127.0.0.1"}}) as rig:
        assert rig.worker.has_database("anything")
        assert "anything" in rig.worker.manager.databases


async def test_a_kill_drops_clients_and_servers_of_one_database_and_pauses_it() -> None:
    fake = FakeServer()
    async with Rig(databases={"other": {"host": fake.host, "port": fake.port}}) as rig:
        peer, bystander = await rig.client(), await rig.client(database="other")
        await peer.ask("1")
        await bystander.ask("1")
        await rig.worker.kill("app")
        error = await peer.error()
        assert (error["C"], error["M"]) == ("57P01", "admin forced disconnect")
        assert rig.worker.is_paused("app")
        assert not rig.worker.is_paused("other")
        assert list(rig.worker.paused_databases()) == ["app"]
        assert m.rows(await bystander.ask("2")) == [["2"]]
        await eventually(lambda: not rig.worker.manager.servers_left("app"))
        bystander.send(m.terminate())
        await rig.worker.kill(None)
        await eventually(lambda: not rig.worker.manager.servers_left(None))
        fake.close()


async def test_a_kill_also_ends_logins_that_wait_for_a_server() -> None:
    stuck = threading.Event()

    def script(conversation: Conversation) -> None:
        stuck.wait(10)

    async with Rig(script) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: rig.fake.logins())
        await rig.worker.kill("app")
        assert (await peer.error())["M"] == "admin forced disconnect"
        assert rig.worker.manager.servers_left(None) == 1, "PostgreSQL has not closed yet"
        stuck.set()
        await eventually(lambda: not rig.worker.manager.servers_left(None))


async def test_one_client_may_be_killed() -> None:
    async with Rig() as rig:
        peer, other = await rig.client(), await rig.client()
        first = next(iter(rig.worker.lobby.clients))
        assert await rig.worker.kill_client(first)
        assert (await peer.error())["M"] == "admin forced disconnect"
        assert not await rig.worker.kill_client(first)
        assert m.rows(await other.ask("1")) == [["1"]]


async def test_pause_is_over_when_the_last_server_has_closed() -> None:
    async with Rig() as rig:
        peer = await rig.client()
        await peer.ask("1")
        await rig.worker.pause("app")
        async with asyncio.timeout(PATIENCE):
            await rig.worker.paused("app")
        assert not rig.worker.manager.servers_left("app")
        await rig.worker.resume("app")
        assert m.rows(await peer.ask("2")) == [["2"]]


async def test_reconnect_closes_what_is_free_and_wait_close_waits_for_the_rest() -> None:
    async with Rig() as rig:
        peer = await rig.client()
        await peer.ask("1")
        await rig.worker.reconnect(None)
        async with asyncio.timeout(PATIENCE):
            await rig.worker.closed(None)
        assert m.rows(await peer.ask("2")) == [["2"]]
        assert rig.fake.logins() == 2


async def test_a_disabled_database_lets_nobody_in_and_throws_nobody_out() -> None:
    async with Rig() as rig:
        inside = await rig.client()
        await rig.worker.disable("app")
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("57P03", 'database "app" is disabled')
        assert m.rows(await inside.ask("1")) == [["1"]]
        await rig.worker.enable("app")
        await rig.client()


# The console, and the timer.


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        ({}, False),
        ({"admin_users": "alice"}, True),
        ({"stats_users": "alice"}, True),
        ({"auth_type": "any"}, True),
    ],
)
async def test_the_console_is_for_those_who_are_named(more: dict[str, str], allowed: bool) -> None:
    async with Rig(**more) as rig:  # type: ignore[arg-type]
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "pgbouncer"}))
        if allowed:
            await peer.welcome()
            assert m.errors(await peer.ask("show version")) == []
        else:
            got = await peer.until(b"E")
            assert (m.errors(got)[0]["C"], m.errors(got)[0]["M"]) == ("42501", "not allowed")


async def test_the_console_has_room_when_the_clients_have_none() -> None:
    async with Rig(max_client_conn=1, admin_users="alice") as rig:
        await rig.client()
        console = await rig.client(database="pgbouncer")
        assert m.errors(await console.ask("show pools")) == []
