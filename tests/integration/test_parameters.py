"""Tracked parameters follow the client to whichever server it gets; nothing leaks from one to the next."""

import itertools
from typing import ClassVar

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, ONE, SESSION_ONE, databases, howdah_only
from tests.support.wire import LoginRefused, Raw

pytestmark = pytest.mark.usefixtures("alive")

TRACKED = ["application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"]
VALUES = {
    "application_name": ("one's", 'two "quoted"'),
    "client_encoding": ("LATIN1", "UTF8"),
    "DateStyle": ("German, DMY", "ISO, YMD"),
    "TimeZone": ("Asia/Tokyo", "America/New_York"),
    "standard_conforming_strings": ("off", "on"),
}
NASTY = [
    "",
    " ",
    "'",
    "''",
    "\\",
    "\\'",
    "a'b\\c\"d",
    "; select 1/0; --",
    "$1 %s {x}",
    "$$x$$",
    "/* not a comment */",
    "tab\tinside",
]


def escaped(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def statuses(got: list[m.Message]) -> dict[str, str]:
    """Name to value of the ParameterStatus messages."""
    pairs = [message.body.split(b"\0")[:2] for message in got if message.tag == b"S"]
    return {name.decode(): value.decode() for name, value in pairs}


# --- SET -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRACKED)
def test_two_clients_on_one_server_keep_their_own_values(pooler: Pooler, name: str) -> None:
    with pooler.raw(ONE) as one, pooler.raw(ONE) as two:
        for client, value in zip((one, two), VALUES[name], strict=True):
            client.rows(f"set {name} = {escaped(value)}")
        for _ in range(3):
            for client, value in zip((one, two), VALUES[name], strict=True):
                assert client.value(f"show {name}") == value


def test_a_client_is_told_of_its_own_changes_only(pooler: Pooler) -> None:
    with pooler.raw(ONE) as one, pooler.raw(ONE) as two:
        assert statuses(one.query("set timezone = 'Asia/Tokyo'")) == {"TimeZone": "Asia/Tokyo"}
        assert statuses(two.query("select 1")) == {}
        assert statuses(one.query("select 1")) == {}


@howdah_only("PgBouncer leaves the name of the last client to one that never set its own")
@pytest.mark.parametrize("value", NASTY)
def test_values_survive_any_number_of_hand_overs(pooler: Pooler, value: str) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as other:
        client.rows(f"set application_name = {escaped(value)}")
        kept = client.value("show application_name")
        for _ in range(4):
            assert other.value("show application_name") == ""
            assert client.value("show application_name") == kept


def test_a_set_in_a_rolled_back_transaction_is_forgotten(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as other:
        client.rows("set timezone = 'Asia/Tokyo'")
        for end in ("rollback", "commit"):
            client.rows("begin")
            client.rows("set timezone = 'America/New_York'")
            client.rows(end)
            expected = "Asia/Tokyo" if end == "rollback" else "America/New_York"
            other.value("select 1")
            assert client.value("show timezone") == expected


def test_a_set_local_ends_with_its_transaction(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as other:
        before = client.value("show timezone")
        client.rows("begin; set local timezone = 'Asia/Tokyo'")
        assert client.value("show timezone") == "Asia/Tokyo"
        client.rows("commit")
        assert other.value("show timezone") == before
        assert client.value("show timezone") == before


def test_a_failed_set_changes_nothing(pooler: Pooler) -> None:
    with pooler.raw(ONE) as client, pooler.raw(ONE) as other:
        client.rows("set timezone = 'Asia/Tokyo'")
        assert m.errors(client.query("set timezone = 'Nowhere/Land'"))
        other.value("select 1")
        assert client.value("show timezone") == "Asia/Tokyo"


@howdah_only("PgBouncer 1.18 tracks a fixed set")
def test_interval_style_is_tracked_by_default_and_more_on_demand(launch: Launch, server: Server) -> None:
    extra = "IntervalStyle, default_transaction_read_only"
    pooler = launch(databases(server), {"track_extra_parameters": extra})
    with pooler.raw(ONE) as one, pooler.raw(ONE) as two:
        one.rows("set intervalstyle = 'iso_8601'; set default_transaction_read_only = on")
        assert two.value("show intervalstyle") == "postgres"
        assert two.value("show default_transaction_read_only") == "off"
        assert one.value("show intervalstyle") == "iso_8601"
        assert one.value("show default_transaction_read_only") == "on"


# --- at login --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_what_was_asked_for_at_login_holds(pooler: Pooler, database: str) -> None:
    asked = {
        "application_name": "me",
        "client_encoding": "LATIN1",
        "DateStyle": "German",
        "TimeZone": "Asia/Tokyo",
    }
    with pooler.raw(database, parameters=asked) as client:
        assert client.value("show application_name") == "me"
        assert client.value("show client_encoding") == "LATIN1"
        assert client.value("show timezone") == "Asia/Tokyo"
        assert str(client.value("show datestyle")).startswith("German")
        client.quit()
    with pooler.raw(database) as client:
        assert client.value("show timezone") != "Asia/Tokyo"


@howdah_only("PgBouncer 1.18 repeats what the client wrote")
def test_the_welcome_says_what_the_server_says(pooler: Pooler, server: Server) -> None:
    asked = {"client_encoding": "utf-8", "TimeZone": "asia/tokyo", "DateStyle": "german"}
    with pooler.raw(ONE, parameters=asked) as client, server.raw(parameters=asked) as direct:
        for name in ("client_encoding", "TimeZone", "DateStyle"):
            assert client.greeting.parameters[name] == direct.greeting.parameters[name]
            assert client.value(f"show {name}") == direct.greeting.parameters[name]


def test_the_welcome_names_the_parameters_postgresql_names(pooler: Pooler, server: Server) -> None:
    with pooler.raw(ONE) as client, server.raw() as direct:
        through, straight = client.greeting.parameters, direct.greeting.parameters
        assert set(straight) <= set(through)
        for name in ("server_version", "server_encoding", "integer_datetimes", "is_superuser"):
            assert through[name] == straight[name]


@howdah_only("PgBouncer 1.18 closes such a client in another way")
def test_an_invalid_value_at_login_hurts_its_owner_only(pooler: Pooler) -> None:
    with pooler.raw(ONE) as other:
        other.value("select 1")
        with pooler.socket() as client:
            asked = {"user": pooler.user, "database": ONE, "TimeZone": "Nowhere/Land"}
            client.send(m.startup(asked), m.query("select 1"))
            (fields,) = m.errors(client.until_closed())
        assert fields["S"] == "FATAL"
        assert "TimeZone" in fields["M"]
        assert other.value("select 1") == "1"


@howdah_only("PgBouncer 1.18 takes no options")
def test_options_set_tracked_parameters(pooler: Pooler) -> None:
    for options in (
        "-c timezone=Asia/Tokyo",
        "--timezone=Asia/Tokyo -c datestyle=German",
        "-ctimezone=Asia/Tokyo",
    ):
        with pooler.raw(ONE, parameters={"options": options}) as client:
            assert client.value("show timezone") == "Asia/Tokyo"


def test_extra_float_digits_is_accepted(pooler: Pooler) -> None:
    with pooler.raw(ONE, parameters={"extra_float_digits": "2"}) as client:
        assert client.value("select 1") == "1"


def test_ignored_startup_parameters_are_dropped(launch: Launch, server: Server) -> None:
    pooler = launch(databases(server), {"ignore_startup_parameters": "extra_float_digits, geqo, options"})
    with pooler.raw(ONE, parameters={"geqo": "off", "options": "-c geqo=off"}) as client:
        assert client.value("show geqo") == "on"


def test_application_name_add_host_tells_where_a_client_comes_from(launch: Launch, server: Server) -> None:
    pooler = launch(databases(server), {"application_name_add_host": 1})
    with pooler.raw(ONE, parameters={"application_name": "me"}) as client:
        assert client.value("show application_name") == f"me - 127.0.0.1:{client.local_port()}"


@howdah_only("PgBouncer opens its servers with its own values")
def test_in_session_mode_reset_goes_back_to_what_was_asked_for_at_login(pooler: Pooler) -> None:
    with pooler.raw(SESSION_ONE) as client:
        client.value("select 1")
        client.quit()
    with pooler.raw(SESSION_ONE, parameters={"DateStyle": "German, DMY"}) as client:
        client.rows("set datestyle = 'ISO'")
        client.rows("reset datestyle")
        assert client.value("show datestyle") == "German, DMY"


# --- unknown_startup_parameters = apply -------------------------------------------------------------------


@pytest.fixture(scope="module")
def applying(module_launch: Launch, server: Server) -> Pooler:
    return module_launch(databases(server), {"unknown_startup_parameters": "apply"})


@howdah_only("our own setting")
class TestApply:
    """Any startup parameter is set on each server lent to the client, and reset when it goes."""

    ASKED: ClassVar = {
        "statement_timeout": "12345",
        "search_path": "pg_catalog, elsewhere",
        "app.tenant": "t'1",
    }

    def shows(self, client: Raw) -> dict[str, str | None]:
        return {name: client.value(f"select current_setting('{name}', true)") for name in self.ASKED}

    def test_what_was_asked_for_holds_on_every_server(self, applying: Pooler) -> None:
        asked = {"statement_timeout": "12345ms", "search_path": "pg_catalog, elsewhere", "app.tenant": "t'1"}
        with applying.raw(APP, parameters=asked) as client:
            holders = [applying.raw(APP) for _ in range(7)]
            for count in range(8):
                for holder in holders[:count]:
                    holder.query("begin")
                assert self.shows(client) == {
                    "statement_timeout": "12345ms",
                    "search_path": "pg_catalog, elsewhere",
                    "app.tenant": "t'1",
                }
                for holder in holders[:count]:
                    holder.query("rollback")
            for holder in holders:
                holder.close()

    def test_it_is_gone_for_the_next_client(self, applying: Pooler) -> None:
        with applying.raw(ONE) as plain:
            fresh = self.shows(plain)
            with applying.raw(ONE, parameters=self.ASKED) as client:
                for _ in range(3):
                    assert client.value("show statement_timeout") == "12345ms"
                    left = self.shows(plain)
                    assert {**left, "app.tenant": left["app.tenant"] or None} == fresh
            assert plain.value("show statement_timeout") == fresh["statement_timeout"]

    def test_the_options_parameter_counts_too(self, applying: Pooler) -> None:
        with applying.raw(
            ONE, parameters={"options": "-c statement_timeout=777 -c app.tenant=a\\ b"}
        ) as client:
            assert client.value("show statement_timeout") == "777ms"
            assert client.value("show app.tenant") == "a b"

    def test_it_holds_in_session_mode(self, applying: Pooler) -> None:
        with applying.raw(SESSION_ONE, parameters={"statement_timeout": "777"}) as client:
            assert client.value("show statement_timeout") == "777ms"
            client.quit()
        with applying.raw(SESSION_ONE) as client:
            assert client.value("show statement_timeout") == "0"

    @pytest.mark.parametrize(
        ("name", "value", "sqlstate"),
        [("statement_timeout", "soon", "22023"), ("nothing_like_it", "1", "42704")],
    )
    def test_an_invalid_one_fails_the_login_with_postgresqls_own_error(
        self, applying: Pooler, name: str, value: str, sqlstate: str
    ) -> None:
        with pytest.raises(LoginRefused) as caught:
            applying.raw(ONE, parameters={name: value})
        assert caught.value.fields["C"] == sqlstate
        assert name in caught.value.fields["M"]
        with applying.raw(ONE) as client:
            assert client.value("select 1") == "1"

    def test_an_apostrophe_cannot_escape(self, applying: Pooler) -> None:
        for value in NASTY:
            with applying.raw(ONE, parameters={"app.tenant": value}) as client:
                assert client.value("show app.tenant") == value


# --- many ------------------------------------------------------------------------------------------------


def test_many_clients_with_different_values_never_see_each_others(pooler: Pooler) -> None:
    zones = ["UTC", "Asia/Tokyo", "America/New_York", "Europe/Paris"]
    clients = []
    for number, zone in zip(range(24), itertools.cycle(zones), strict=False):
        parameters = {"application_name": f"client {number}", "TimeZone": zone}
        clients.append((number, zone, pooler.raw(APP, parameters=parameters)))
    for _ in range(10):
        for _, _, client in clients:
            client.send(m.query("select current_setting('application_name'), current_setting('timezone')"))
        for number, zone, client in clients:
            assert m.rows(client.until()) == [[f"client {number}", zone]]
    for _, _, client in clients:
        client.close()


def test_the_applications_name_is_seen_in_pg_stat_activity(pooler: Pooler, server: Server) -> None:
    with pooler.raw(BYSTANDER, parameters={"application_name": "look at me"}) as client:
        client.send(m.query("select pg_sleep(0.5)"))
        wait_until(
            lambda: (
                server.value(
                    "select count(*) from pg_stat_activity"
                    " where application_name = 'look at me' and state = 'active'"
                )
                == 1
            ),
            2,
            "seen",
        )
        client.until()
