import asyncio

import pytest

from config.problems import ConfigError, NotChangeable, Problem, UnknownSetting
from proxy.control import (
    Control,
    Disable,
    Enable,
    Kill,
    KillClient,
    Order,
    OrderRefused,
    Pause,
    Reconnect,
    Reload,
    Resume,
    Set,
    Shutdown,
    ShutdownMode,
    Suspend,
    WaitClose,
)
from tests.proxy.fakes import FakeDaemon


async def refusal(daemon: FakeDaemon, order: Order) -> OrderRefused:
    with pytest.raises(OrderRefused) as error:
        await Control(daemon).execute(order)
    return error.value


async def steps(count: int = 5) -> None:
    """Let every task run until it waits for something real."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("order", "call"),
    [
        (Pause(), ("pause", None)),
        (Pause("app"), ("pause", "app")),
        (Disable("app"), ("disable", "app")),
        (Enable("app"), ("enable", "app")),
        (Reconnect(), ("reconnect", None)),
        (Reconnect("app"), ("reconnect", "app")),
        (WaitClose(), ("closed", None)),
        (WaitClose("app"), ("closed", "app")),
        (Kill(), ("kill", None)),
        (Kill("app"), ("kill", "app")),
        (KillClient(7), ("kill_client", 7)),
        (Reload(), ("reload",)),
        (Set("query_timeout", "5"), ("set", "query_timeout", "5")),
        (Shutdown(), ("shutdown", ShutdownMode.IMMEDIATE)),
        (Shutdown(ShutdownMode.WAIT_FOR_CLIENTS), ("shutdown", ShutdownMode.WAIT_FOR_CLIENTS)),
    ],
)
async def test_an_order_reaches_the_daemon_once(order: Order, call: tuple[object, ...]) -> None:
    daemon = FakeDaemon()
    await Control(daemon).execute(order)
    assert daemon.calls == [call]


@pytest.mark.parametrize(
    "order",
    [
        Pause("nix"),
        Resume("nix"),
        Disable("nix"),
        Enable("nix"),
        Reconnect("nix"),
        WaitClose("nix"),
        Kill("nix"),
    ],
)
async def test_an_unknown_database_is_refused(order: Order) -> None:
    daemon = FakeDaemon()
    error = await refusal(daemon, order)
    assert (error.message, error.sqlstate) == ("no such database: nix", "08P01")
    assert daemon.calls == []


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (Pause, "cannot pause admin db: {}"),
        (Disable, "cannot disable admin db: {}"),
        (Enable, "cannot enable admin db: {}"),
        (Reconnect, "cannot reconnect admin db: {}"),
        (WaitClose, "cannot wait in admin db: {}"),
        (Kill, "cannot kill admin db: {}"),
        (Resume, "database {} is not paused"),
    ],
)
@pytest.mark.parametrize("name", ["pgbouncer", "howdah"])
async def test_the_console_itself_is_left_alone(order: type[Pause], message: str, name: str) -> None:
    daemon = FakeDaemon()
    assert (await refusal(daemon, order(name))).message == message.format(name)
    assert daemon.calls == []


@pytest.mark.parametrize("order", [Disable(), Enable()])
async def test_some_orders_need_a_database(order: Order) -> None:
    assert (await refusal(FakeDaemon(), order)).message == "a database is required"


@pytest.mark.parametrize("order", [Pause(), Pause("app"), Kill(), Kill("app")])
async def test_a_paused_pooler_is_neither_paused_nor_killed_again(order: Order) -> None:
    daemon = FakeDaemon()
    daemon.pauses.add(None)
    assert (await refusal(daemon, order)).message == "already suspended/paused"
    assert daemon.calls == []


async def test_pause_is_done_when_no_server_is_left() -> None:
    daemon = FakeDaemon()
    daemon.drained.clear()
    waiting = asyncio.create_task(Control(daemon).execute(Pause()))
    await steps()
    assert daemon.is_paused(None)
    assert not waiting.done()
    daemon.drained.set()
    await waiting


async def test_wait_close_is_done_when_the_marked_servers_are_gone() -> None:
    daemon = FakeDaemon()
    daemon.drained.clear()
    waiting = asyncio.create_task(Control(daemon).execute(WaitClose("app")))
    await steps()
    assert not waiting.done()
    daemon.drained.set()
    await waiting


async def test_whoever_stops_waiting_for_a_pause_leaves_it_in_place() -> None:
    daemon = FakeDaemon()
    daemon.drained.clear()
    control = Control(daemon)
    waiting = asyncio.create_task(control.execute(Pause("app")))
    await steps()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert daemon.is_paused("app")
    assert daemon.abandoned == ["app"]
    await control.undo(Pause("app"))
    assert not daemon.is_paused("app")


async def test_undo_takes_back_nothing_but_a_pause() -> None:
    daemon = FakeDaemon()
    await Control(daemon).undo(WaitClose("app"))
    assert daemon.calls == []


async def test_undo_does_not_let_traffic_flow_into_a_pooler_that_ends() -> None:
    daemon = FakeDaemon()
    daemon.pauses.add(None)
    daemon.shutting_down = True
    await Control(daemon).undo(Pause())
    assert daemon.is_paused(None)


async def test_resume_by_someone_else_ends_the_wait_for_a_pause() -> None:
    daemon = FakeDaemon()
    daemon.drained.clear()
    control = Control(daemon)
    waiting = asyncio.create_task(control.execute(Pause()))
    other = asyncio.create_task(control.execute(Pause("app")))
    await steps()
    assert other.done()
    await control.execute(Resume())
    with pytest.raises(OrderRefused, match="PAUSE was undone by RESUME") as error:
        await waiting
    assert error.value.sqlstate == "57014"
    assert daemon.abandoned == [None]
    assert other.exception() is not None


async def test_resume_of_one_database_leaves_the_wait_for_another() -> None:
    daemon = FakeDaemon()
    daemon.drained.clear()
    control = Control(daemon)
    app = asyncio.create_task(control.execute(Pause("app")))
    hosts = asyncio.create_task(control.execute(Pause("hosts")))
    await steps()
    await control.execute(Resume("app"))
    with pytest.raises(OrderRefused):
        await app
    assert not hosts.done()
    daemon.drained.set()
    await hosts


async def test_resume_undoes_the_pause_it_names() -> None:
    daemon = FakeDaemon()
    daemon.pauses |= {None, "app"}
    await Control(daemon).execute(Resume())
    assert daemon.pauses == {"app"}
    await Control(daemon).execute(Resume("app"))
    assert daemon.pauses == set()


async def test_resume_needs_something_paused() -> None:
    daemon = FakeDaemon()
    assert (await refusal(daemon, Resume())).message == "pooler is not paused/suspended"
    assert (await refusal(daemon, Resume("app"))).message == "database app is not paused"


async def test_resume_after_a_kill_of_everything_resumes_everything() -> None:
    daemon = FakeDaemon()
    control = Control(daemon)
    await control.execute(Kill())
    assert daemon.pauses == {"app", "hosts"}
    await control.execute(Resume())
    assert daemon.pauses == set()


async def test_a_pooler_that_shuts_down_is_not_resumed() -> None:
    daemon = FakeDaemon()
    daemon.pauses.add(None)
    await Control(daemon).execute(Shutdown(ShutdownMode.WAIT_FOR_SERVERS))
    assert (await refusal(daemon, Resume())).message == "pooler is shutting down"
    assert daemon.is_paused(None)


async def test_an_unknown_client_is_not_found() -> None:
    assert (await refusal(FakeDaemon(), KillClient(1000))).message == "client not found"


async def test_suspend_is_refused_as_not_supported() -> None:
    error = await refusal(FakeDaemon(), Suspend())
    assert (error.message, error.sqlstate) == ("SUSPEND is not supported", "0A000")


async def test_a_failed_reload_says_what_is_wrong() -> None:
    daemon = FakeDaemon()
    daemon.problem = ConfigError([Problem("howdah.ini", 3, "pool_mode", "no such mode")])
    error = await refusal(daemon, Reload())
    assert error.message == "RELOAD failed, see logs for additional details"
    assert (error.sqlstate, error.detail) == ("F0000", "howdah.ini:3: pool_mode: no such mode")


async def test_a_reload_is_finished_even_if_nobody_waits_for_it() -> None:
    daemon = FakeDaemon()
    daemon.reloadable.clear()
    asking = asyncio.create_task(Control(daemon).execute(Reload()))
    await steps()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    daemon.reloadable.set()
    await steps()
    assert daemon.calls == [("reload",)]


@pytest.mark.parametrize(
    ("problem", "detail"),
    [
        (UnknownSetting("frob", []), 'unknown setting "frob"'),
        (NotChangeable("listen_addr"), '"listen_addr" cannot be changed while running, only by a restart'),
        (ConfigError([Problem("console", 0, "k", "not a number")]), "console: k: not a number"),
    ],
)
async def test_a_failed_set_says_why(problem: Exception, detail: str) -> None:
    daemon = FakeDaemon()
    daemon.problem = problem
    error = await refusal(daemon, Set("k", "v"))
    assert (error.message, error.sqlstate, error.detail) == ("SET failed", "08P01", detail)
