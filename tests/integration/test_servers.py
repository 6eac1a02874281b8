"""Which server is taken, whether it is still good, and how new ones are opened."""

import pytest

from tests.integration.conftest import FAKE, Launch, before_fake
from tests.support import messages as m
from tests.support.fault_proxy import FaultProxy, wait_until
from tests.support.ports import free_port
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import APP, ONE, entry, howdah_only, one_process

EMPTY_QUERY = m.Message(b"Q", b"\0")


def queries(conversation: Conversation) -> list[str]:
    """The text of every simple query this server got."""
    return [message.body.rstrip(b"\0").decode() for message in conversation.seen if message.tag == b"Q"]


# --- checks --------------------------------------------------------------------------------------------


def test_a_server_idle_for_longer_than_the_delay_is_checked_before_use(
    launch: Launch, fake: FakeServer
) -> None:
    pooler = before_fake(launch, fake, server_check_delay=0, server_check_query="select 'alive?'")
    with pooler.raw(FAKE) as client:
        client.value("select 1")
        wait_until(lambda: pooler.pool(FAKE, "u").get("sv_used", 0) == 1, 10, "in need of a check")
        client.value("select 2")
    seen = queries(fake.conversations[0])
    assert seen.index("select 'alive?'") < seen.index("select 2")


@howdah_only("PgBouncer 1.18 checks with select 1")
def test_the_default_check_is_the_empty_query(launch: Launch, fake: FakeServer) -> None:
    pooler = before_fake(launch, fake, server_check_delay=0)
    with pooler.raw(FAKE) as client:
        client.value("select 1")
        wait_until(lambda: pooler.pool(FAKE, "u").get("sv_used", 0) == 1, 10, "in need of a check")
        client.value("select 2")
    assert EMPTY_QUERY in fake.conversations[0].seen


@howdah_only("not looked into for PgBouncer")
def test_a_server_that_fails_its_check_is_replaced_and_the_client_notices_nothing(
    launch: Launch, fake: FakeServer
) -> None:
    sick: list[int] = []

    def patient(conversation: Conversation) -> None:
        conversation.welcome()
        while True:
            got = conversation.expect(b"Q")
            if b"check" in got.body and conversation.number in sick:
                conversation.refuse("XX000", "not well")
                return
            conversation.answer(got.body.rstrip(b"\0").decode())

    fake.script = patient
    pooler = before_fake(launch, fake, server_check_delay=0, server_check_query="select 'check'")
    with pooler.raw(FAKE) as client:
        client.value("select 1")
        wait_until(lambda: pooler.pool(FAKE, "u").get("sv_used", 0) == 1, 10, "in need of a check")
        sick.append(1)
        assert client.value("select 2") == "select 2"
        assert fake.logins() == 2


def test_a_recently_used_server_is_not_checked(launch: Launch, fake: FakeServer) -> None:
    pooler = before_fake(launch, fake)
    with pooler.raw(FAKE) as client:
        for number in range(5):
            client.value(f"select {number}")
    assert [sql for sql in queries(fake.conversations[0]) if sql.startswith("select")] == [
        f"select {number}" for number in range(5)
    ]
    assert EMPTY_QUERY not in fake.conversations[0].seen


# --- lists of hosts --------------------------------------------------------------------------------------


@howdah_only("hosts of PgBouncer 1.18 must all be there")
def test_a_host_of_a_list_that_is_down_is_passed_over(launch: Launch, server: Server) -> None:
    """127.0.0.2 refuses connections; every server comes from 127.0.0.1."""
    hosts = {**entry(server, pool_size=4), "host": f"127.0.0.2,{server.host}"}
    pooler = launch({APP: hosts})
    clients = [pooler.raw(APP) for _ in range(4)]
    for client in clients:
        client.send(m.query("select pg_sleep(0.2), inet_server_addr()::text"))
    for client in clients:
        assert [row[1] for row in m.rows(client.until())] == ["127.0.0.1/32"]
        client.close()


@howdah_only("not in PgBouncer 1.18")
@pytest.mark.parametrize(("balance", "logins"), [("round-robin", [2, 2]), ("disable", [0, 4])])
@one_process("each worker takes the hosts of a list in turn")
def test_hosts_of_a_list_take_turns_unless_told_not_to(
    launch: Launch, fake: FakeServer, balance: str, logins: list[int]
) -> None:
    """Two servers on one port of two loopback addresses, four connections."""
    with FakeServer(host="127.0.0.2", port=fake.port) as other:
        more = {"host": f"{fake.host},{other.host}", "port": fake.port, "pool_size": 4, "min_pool_size": 4}
        pooler = launch({FAKE: {**more, "load_balance_hosts": balance}}, user="u")
        with pooler.raw(FAKE) as client:
            client.value("select 1")
            wait_until(lambda: fake.logins() + other.logins() == 4, 10, "four servers")
        assert sorted([fake.logins(), other.logins()]) == logins
        (row,) = pooler.show("DATABASES", name=FAKE)
        assert row["load_balance_hosts"] == balance


# --- opening ---------------------------------------------------------------------------------------------


def test_a_connect_query_that_fails_is_logged_and_ignored(launch: Launch, server: Server) -> None:
    pooler = launch({APP: entry(server, connect_query="select no_such_function()")})
    with pooler.raw(APP) as client:
        assert client.value("select 1") == "1"


def test_parameters_of_the_entry_are_asked_for_at_the_servers_login(launch: Launch, fake: FakeServer) -> None:
    asked = {"client_encoding": "LATIN1", "timezone": "Asia/Tokyo"}
    entries = {FAKE: {"host": fake.host, "port": fake.port, **asked}}
    pooler = launch(entries, user="u")
    with pooler.raw(FAKE) as client:
        client.value("select 1")
    asked = {name.lower(): value for name, value in fake.conversations[0].startup.items()}
    assert asked["client_encoding"] == "LATIN1"
    assert asked["timezone"] == "Asia/Tokyo"


@howdah_only("not looked into for PgBouncer")
def test_a_fixed_application_name_of_the_entry_is_used(launch: Launch, server: Server) -> None:
    pooler = launch({ONE: entry(server, application_name="fixed")})
    with pooler.raw(ONE) as client:
        assert client.value("show application_name") == "fixed"


def test_servers_are_closed_with_terminate(launch: Launch, fake: FakeServer) -> None:
    pooler = before_fake(launch, fake)
    with pooler.raw(FAKE) as client:
        client.value("select 1")
        pooler.admin("RECONNECT")
        wait_until(lambda: not pooler.show("SERVERS"), 10, "closed")
    assert fake.conversations[0].seen[-1].tag == b"X"


@howdah_only("not looked into for PgBouncer")
def test_a_slot_is_free_only_when_its_server_has_closed(launch: Launch, fake: FakeServer) -> None:
    """The first server takes Terminate and does not hang up: no second one is opened beside it."""

    def lingers(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.serve()
        wait_until(lambda: bool(released), 10, "released by the test")

    released: list[bool] = []
    fake.script = lingers
    entries = {FAKE: {"host": fake.host, "port": fake.port, "pool_size": 1}}
    pooler = launch(entries, user="u")
    with pooler.raw(FAKE) as client:
        client.value("select 1")
        pooler.admin("RECONNECT")
        client.send(m.query("select 2"))
        assert client.silent_for(0.5)
        assert fake.logins() == 1
        released.append(True)
        assert m.rows(client.until()) == [["select 2"]]
        assert fake.logins() == 2


@howdah_only("our own setting")
def test_a_server_that_never_hangs_up_is_given_up_after_server_close_timeout(
    launch: Launch, server: Server
) -> None:
    with FaultProxy((server.host, server.port)) as proxy:
        entries = {ONE: {**entry(server, pool_size=1), "host": proxy.host, "port": proxy.port}}
        pooler = launch(entries, {"server_close_timeout": 1})
        with pooler.raw(ONE) as client:
            client.value("select 1")
            proxy.blackhole()
            pooler.admin("RECONNECT")
            held = len(proxy.links)
            wait_until(lambda: not pooler.show("SERVERS"), 10, "given up")
            proxy.heal()
            assert client.value("select 2") == "2"
            assert len(proxy.links) == held + 1


def test_a_port_nobody_listens_on_costs_nothing_but_its_own_clients_time(
    launch: Launch, server: Server
) -> None:
    entries = {FAKE: {"host": "127.0.0.1", "port": free_port()}, APP: entry(server)}
    pooler = launch(entries)
    with pooler.socket() as lost:
        lost.send(m.startup({"user": server.user, "database": FAKE}))
        with pooler.raw(APP) as client:
            for number in range(50):
                assert client.value(f"select {number}") == str(number)
