"""Attacks of one client, or of an administrator in a hurry, that everybody else must survive unharmed."""

import re
import time

import pytest

from tests.integration.conftest import FAKE, Launch, before_fake
from tests.support import messages as m
from tests.support.alive import BYSTANDER, echo
from tests.support.attacks import closed_ports, crowd, for_seconds
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import APP, ONE, databases, entry, howdah_only
from tests.support.wire import LoginRefused, Raw

pytestmark = pytest.mark.usefixtures("alive")

FLOOD = 60_000
"""Messages that the event loop must get through without anybody noticing."""
NOTICEABLE = 2.0
"""Seconds of its CPU time; what costs the square of the flood costs more than ten times as much."""


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    return module_launch(databases(server))


@pytest.fixture(scope="module")
def applying(module_launch: Launch, server: Server) -> Pooler:
    """A pooler with a single server, that sets on it whatever its clients ask for at login."""
    entries = {ONE: entry(server, pool_size=1), BYSTANDER: entry(server)}
    return module_launch(entries, {"unknown_startup_parameters": "apply"}, user=server.postgres.user)


def wishing(pooler: Pooler, **parameters: str) -> Raw:
    """A client whose login asks for these parameters."""
    return pooler.raw(ONE, pooler.user, parameters)


def refused_connections(pooler: Pooler, since: int) -> set[str]:
    """Databases for which a connection was tried in vain, by the log."""
    return set(re.findall(r"S-0x\w+: (\w+)/.*connect failed", pooler.log(since)))


# --- floods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stray",
    [m.flush(), m.copy_done(), m.copy_data(b""), m.copy_fail(""), m.sync()],
    ids=["flush", "copy_done", "copy_data", "copy_fail", "sync"],
)
def test_a_flood_of_stray_messages_stops_nobody(pooler: Pooler, stray: bytes) -> None:
    with pooler.raw(APP) as flooder, pooler.raw(BYSTANDER) as bystander:
        echo(bystander)
        flooder.send(stray * FLOOD, m.query("select 'after'"))
        before = pooler.cpu_seconds()
        echo(bystander)
        assert m.rows(flooder.until(b"C")) == [["after"]]
        assert pooler.cpu_seconds() - before < NOTICEABLE


def test_thousands_of_messages_behind_an_error_are_skipped(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.send(m.parse("", "not sql"), (m.bind() + m.execute() + m.flush()) * 5000)
        assert m.tags(client.until(b"E")) == "E"
        assert m.tags(client.ask(m.sync())) == "Z"
        echo(client)


def test_a_failed_copy_swallows_megabytes_and_then_answers(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client:
        client.query("create temp table narrow (a int)")
        client.send(m.query("begin; create table wide (a int); copy wide from stdin"))
        client.until(b"G")
        client.send(m.copy_data(b"not a number\n"), m.copy_data(b"x" * 8000) * 1000, m.copy_done())
        assert m.tags(client.until()) == "EZ"
        echo_after_rollback(client)


def echo_after_rollback(client: Raw) -> None:
    client.query("rollback")
    echo(client)


def test_a_query_inside_of_a_copy_ends_as_it_does_without_a_pooler(pooler: Pooler, server: Server) -> None:
    def play(client: Raw) -> str:
        client.query("create temp table inside (a int)")
        client.send(m.query("begin; create temp table t (a int); copy t from stdin"), m.query("select 1"))
        return m.tags(client.until_closed())

    with pooler.raw(ONE) as through, server.raw() as direct:
        assert play(through) == play(direct)


# --- settings of other clients --------------------------------------------------------------------------


@howdah_only("unknown_startup_parameters is ours")
@pytest.mark.parametrize("name", ["app." + "a" * 80, "app.é"], ids=["too_long", "not_ascii"])
def test_a_setting_that_reset_cannot_name_never_reaches_the_next_client(applying: Pooler, name: str) -> None:
    with pytest.raises(LoginRefused, match="invalid configuration parameter name"):
        wishing(applying, **{name: "secret", "client_encoding": "LATIN1"})
    with wishing(applying) as other:
        assert other.value(f"select current_setting('{name}', true)") in (None, "")


@howdah_only("unknown_startup_parameters is ours")
@pytest.mark.parametrize("whom", ["role", "session_authorization"])
def test_the_last_clients_role_does_not_judge_the_next_login(
    applying: Pooler, server: Server, whom: str
) -> None:
    with wishing(applying, **{whom: server.user}) as ordinary:
        assert ordinary.value("select current_user") == server.user
    # Something only a superuser may set, and another value each time: what was accepted once is remembered.
    value = {"role": "ddl", "session_authorization": "mod"}[whom]
    with wishing(applying, log_statement=value) as superuser:
        assert superuser.rows("select current_user, current_setting('log_statement')") == [
            [server.postgres.user, value]
        ]


# --- losses ------------------------------------------------------------------------------------------------


@howdah_only("PgBouncer may say nothing")
def test_a_loss_behind_an_ordinary_error_is_told(launch: Launch, fake: FakeServer) -> None:
    """The error was that of a request, not that of the connection."""

    def fail_and_vanish(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"P")
        conversation.expect(b"H")
        conversation.send(m.error_response("22012", "division by zero"))
        conversation.hang_up()

    fake.script = fail_and_vanish
    with before_fake(launch, fake).raw(FAKE) as client:
        # In one piece: a Flush that comes behind the error is not passed on.
        client.send(m.parse("", "select 1/0"), m.flush())
        ordinary, loss = m.errors(client.until_closed())
        assert (ordinary["C"], loss["S"]) == ("22012", "FATAL")


@howdah_only("PgBouncer waits for server_login_retry")
def test_an_unreachable_host_is_probed_for_as_long_as_somebody_waits(launch: Launch) -> None:
    """Timers may fire a moment early; no such moment may end the probing."""
    ports = {f"closed{port}": port for port in closed_ports(60)}
    pooler = launch({name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()})
    clients = []
    for name in ports:
        client = pooler.socket()
        client.send(m.startup({"user": pooler.user, "database": name}))
        clients.append(client)
    wait_until(lambda: refused_connections(pooler, 0) == set(ports), 10, "every host was tried")
    time.sleep(2.5)
    mark = pooler.log_mark()
    wait_until(lambda: refused_connections(pooler, mark) == set(ports), 10, "every host is tried again")
    for client in clients:
        client.reset()


# --- orders ------------------------------------------------------------------------------------------------


@howdah_only("a storm needs no second opinion")
def test_kills_under_load_lose_no_slot_and_mix_no_replies(launch: Launch, server: Server) -> None:
    pooler = launch({APP: entry(server, pool_size=2), BYSTANDER: entry(server)})

    def kill() -> None:
        pooler.admin(f"KILL {APP}")
        pooler.admin(f"RESUME {APP}")

    with crowd(pooler, APP, 12) as tally:
        for_seconds(2.0, 0.02, kill)
    assert tally.foreign == []
    assert tally.unanswered == []
    pooler.wait_for_pool(APP, cl_waiting=0, sv_active=0, sv_login=0, sv_being_canceled=0)
    with pooler.raw(APP) as one, pooler.raw(APP) as two:
        for client in (one, two):
            client.query("begin")
            echo(client)
    pooler.check_log()


@howdah_only("a storm needs no second opinion")
def test_pauses_reconnects_and_reloads_under_load_are_not_noticed(launch: Launch, server: Server) -> None:
    pooler = launch({APP: entry(server, pool_size=2), BYSTANDER: entry(server)})
    orders = (f"PAUSE {APP}", f"RESUME {APP}", f"RECONNECT {APP}", "RELOAD", "SHOW SERVERS")
    with crowd(pooler, APP, 12) as tally:
        for_seconds(2.0, 0.005, lambda: [pooler.admin(order) for order in orders])
    assert (tally.foreign, tally.unanswered, tally.sent_away) == ([], [], 0)
    assert tally.answered > 50
