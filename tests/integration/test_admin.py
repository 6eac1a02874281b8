"""The console: what SHOW says, who may do what, and what it makes of bad input.

Columns, tags and texts are PgBouncer's, in its order on the wire.
"""

from collections.abc import Iterator

import pytest

from tests.support import messages as m
from tests.support.pooler import ADMIN, CONSOLE, Pooler
from tests.support.server import Server
from tests.support.standard import ONE, SESSION, howdah_only
from tests.support.wire import LoginRefused, Raw

TEXT, INT4, INT8, NUMERIC = 25, 23, 20, 1700

STATS_NAMES = "server_assignment xact query received sent xact_time query_time wait_time"

SOCKET = (
    "type user database replication state addr port i local_addr local_port i connect_time request_time"
    " wait i wait_us i close_needed i ptr link remote_pid i tls application_name prepared_statements i id i"
)

COLUMNS = {
    "VERSION": "version",
    "STATE": "key value",
    "CONFIG": "key value default changeable",
    "LISTS": "list items i",
    "TOTALS": "name value N",
    "POOLS": (
        "database user cl_active i cl_waiting i cl_active_cancel_req i cl_waiting_cancel_req i sv_active i"
        " sv_active_cancel i sv_being_canceled i sv_idle i sv_used i sv_tested i sv_login i maxwait i"
        " maxwait_us i pool_mode load_balance_hosts"
    ),
    "CLIENTS": SOCKET,
    "SERVERS": SOCKET,
    "DATABASES": (
        "name host port i database force_user pool_size i min_pool_size i reserve_pool_size i"
        " server_lifetime i pool_mode load_balance_hosts max_connections i current_connections i"
        " max_client_connections i current_client_connections i paused i disabled i"
    ),
    "USERS": (
        "name pool_size reserve_pool_size pool_mode max_user_connections i current_connections i"
        " max_user_client_connections i current_client_connections i"
    ),
    "STATS": (
        "database total_server_assignment_count N total_xact_count N total_query_count N total_received N"
        " total_sent N total_xact_time N total_query_time N total_wait_time N total_client_parse_count N"
        " total_server_parse_count N total_bind_count N avg_server_assignment_count N avg_xact_count N"
        " avg_query_count N avg_recv N avg_sent N avg_xact_time N avg_query_time N avg_wait_time N"
        " avg_client_parse_count N avg_server_parse_count N avg_bind_count N"
    ),
    "STATS_TOTALS": (
        "database server_assignment_count N xact_count N query_count N bytes_received N bytes_sent N"
        " xact_time N query_time N wait_time N client_parse_count N server_parse_count N bind_count N"
    ),
    "STATS_AVERAGES": (
        "database server_assignment_count N xact_count N query_count N bytes_received N bytes_sent N"
        " xact_time N query_time N wait_time N avg_client_parse_count N avg_server_parse_count N"
        " avg_bind_count N"
    ),
}
"""Names in wire order; a type letter follows where it is not text: i int4, N numeric."""

_TYPES = {"i": INT4, "N": NUMERIC}


def expected_columns(text: str) -> list[tuple[str, int]]:
    columns: list[tuple[str, int]] = []
    for word in text.split():
        if word in _TYPES:
            columns[-1] = (columns[-1][0], _TYPES[word])
        else:
            columns.append((word, TEXT))
    return columns


@pytest.fixture(autouse=True)
def resumed(pooler: Pooler) -> Iterator[None]:
    """No test leaves the next one a paused pooler."""
    yield
    with pooler.raw(CONSOLE, ADMIN) as client:
        client.query("RESUME")


# --- SHOW --------------------------------------------------------------------------------------------


@howdah_only("columns differ between PgBouncer's versions")
@pytest.mark.parametrize("what", COLUMNS)
def test_show_has_pgbouncers_columns_in_its_order_with_its_types(pooler: Pooler, what: str) -> None:
    with pooler.connect(CONSOLE, ADMIN) as connection:
        cursor = connection.execute(f"SHOW {what}".encode())
        assert cursor.description is not None
        columns = [(column.name, column.type_code) for column in cursor.description]
        expected = expected_columns(COLUMNS[what])
        optional = {"total_client_login_count", "avg_client_login_count", "client_login_count"}
        assert [column for column in columns if column[0] not in optional] == expected
        assert cursor.statusmessage == "SHOW"
        cursor.fetchall()


def test_show_version_begins_as_pgbouncers_does(pooler: Pooler) -> None:
    ((version,),) = [tuple(row.values()) for row in pooler.admin("SHOW VERSION")]
    assert str(version).startswith("PgBouncer 1.")


def test_show_help_lists_the_commands_in_a_notice(console: Raw) -> None:
    got = console.query("SHOW HELP")
    notice = next(m.fields_of(message.body) for message in got if message.tag == b"N")
    assert notice["M"] == "Console usage"
    for word in ("SHOW", "PAUSE", "RELOAD", "KILL", "SHUTDOWN"):
        assert word in notice["D"]


def test_case_and_semicolons_do_not_matter_and_select_is_show(console: Raw) -> None:
    for sql in ("show version", "SHOW VERSION;", "  Show   Version ; ", "select version"):
        assert len(console.rows(sql)) == 1


def test_what_show_clients_and_show_servers_say_fits_together(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE, parameters={"application_name": "shown"}) as client:
        client.rows("begin")
        pid = client.value("select pg_backend_pid()")
        (row,) = pooler.show("CLIENTS", database=ONE)
        (other,) = pooler.show("SERVERS", database=ONE)
        assert row["type"] == "C"
        assert row["state"] == "active"
        assert row["user"] == pooler.user
        assert row["port"] == client.local_port()
        assert row["application_name"] == "shown"
        assert other["type"] == "S"
        assert other["state"] == "active"
        assert str(other["remote_pid"]) == pid
        assert other["port"] == server.port
        assert (row["link"], other["link"]) == (other["ptr"], row["ptr"])
        client.rows("commit")
        (other,) = pooler.show("SERVERS", database=ONE)
        assert other["state"] in ("idle", "used")
        assert other["link"] == ""


def test_the_state_of_a_client_is_shown(pooler: Pooler) -> None:
    def state(client: Raw) -> object:
        (row,) = pooler.show("CLIENTS", port=client.local_port())
        return row["state"]

    with pooler.raw(ONE) as holder, pooler.raw(ONE) as client:
        holder.rows("begin")
        client.send(m.query("select 1"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        assert state(holder) == "active"
        assert state(client) == "waiting"
        holder.rows("commit")
        client.until()


def test_show_databases_says_what_is_configured(pooler: Pooler, server: Server) -> None:
    (row,) = pooler.show("DATABASES", name=ONE)
    assert (row["host"], row["port"], row["database"]) == (server.host, server.port, server.database)
    assert (row["pool_size"], row["paused"], row["disabled"]) == (1, 0, 0)
    (row,) = pooler.show("DATABASES", name=SESSION)
    assert row["pool_mode"] == "session"
    (row,) = pooler.show("DATABASES", name=CONSOLE)
    assert row["pool_mode"] == "statement"


@howdah_only("counted since PgBouncer 1.23")
def test_statistics_count_assignments_transactions_and_queries(pooler: Pooler) -> None:
    def numbers() -> dict[str, int]:
        rows = pooler.show("STATS_TOTALS", database=SESSION)
        return {key: int(str(value)) for row in rows for key, value in row.items() if key != "database"}

    before = numbers()
    for _ in range(4):
        with pooler.raw(SESSION) as client:
            client.value("select 1")
    with pooler.raw(SESSION) as client:
        for _ in range(2):
            for sql in ("begin", "select 1", "select 1", "select 1", "commit"):
                client.query(sql)
    after = numbers()
    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["server_assignment_count"] == 5
    assert grown["xact_count"] == 6
    assert grown["query_count"] == 14
    assert grown["bytes_received"] > 14 * 10
    assert grown["bytes_sent"] > 14 * 10
    assert grown["query_time"] > 0
    assert grown["xact_time"] >= grown["query_time"]


@howdah_only("not all in PgBouncer 1.18")
def test_show_of_a_drivers_parameter_and_setting_it_is_tolerated(console: Raw) -> None:
    assert console.rows("SHOW standard_conforming_strings") == [["on"]]
    for sql in ("SET extra_float_digits = 2", "SET client_encoding = 'UTF8'", "SET datestyle TO 'ISO'"):
        assert m.errors(console.query(sql)) == []


def test_the_console_greets_like_a_server(console: Raw) -> None:
    parameters = console.greeting.parameters
    assert parameters["server_version"].endswith("/bouncer")
    assert parameters["client_encoding"] == parameters["server_encoding"] == "UTF8"
    assert parameters["standard_conforming_strings"] == "on"
    assert parameters["DateStyle"] == "ISO"


@howdah_only("another name for the same console")
def test_the_console_has_a_second_name(pooler: Pooler) -> None:
    with pooler.raw("howdah", ADMIN) as client:
        assert client.rows("SHOW VERSION")


# --- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql", ["SHOW", "SHOW nothing", "PAUSE a b", "SET", "SET x", "KILL_CLIENT", "SHUTDOWN NEVER", "\x1b[2J"]
)
def test_bad_arguments_are_errors(console: Raw, sql: str) -> None:
    console.error(sql)
    assert console.rows("SHOW VERSION")


def test_an_empty_query_is_answered(console: Raw) -> None:
    got = console.query("")
    assert m.tags(got) in ("IZ", "EZ", "CZ")
    assert console.rows("SHOW VERSION")


# --- who may -------------------------------------------------------------------------------------------


def test_an_admin_who_is_not_known_by_password_is_not_let_in(pooler: Pooler) -> None:
    with pytest.raises(LoginRefused, match="authentication failed"):
        pooler.raw(CONSOLE, "nobody_knows_me")
