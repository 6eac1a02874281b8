"""auth_type = hba: who comes in is what the first rule says that fits."""

import re
import urllib.request
from collections.abc import Iterator

import psycopg
import pytest

from proxy.host_names import confirmed_name
from tests.conformance.logins import MD5, PASSWORDS, PLAIN, SCRAM, SECRETS
from tests.integration.conftest import Launch
from tests.support.pooler import ADMIN, CONSOLE, Pooler, StartFailed, run_to_the_end
from tests.support.ports import free_port
from tests.support.rules import Rules, refusal
from tests.support.server import Server
from tests.support.standard import APP, ONE, build, databases, entry, howdah_only
from tests.support.wire import LoginRefused

pytestmark = howdah_only("rules that PgBouncer does not know, and texts of our own")

NO_RULE = "no authentication method is found"
REJECTED = "login rejected"
WRONG = "authentication failed"


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    with Rules() as rules:
        yield rules


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, rules: Rules) -> Pooler:
    entries = {**databases(server, user=server.user), "alice": entry(server, user=server.user)}
    secrets = {**SECRETS, "alice": "alice-secret", "bob": "bob-secret", "team_1": "x"}
    return module_launch(entries, rules.settings, secrets=secrets)


# --- methods -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "user"),
    [
        ("password", PLAIN),
        ("password", MD5),
        ("plain", SCRAM),
        ("md5", PLAIN),
        ("md5", MD5),
        ("md5", SCRAM),
        ("scram-sha-256", PLAIN),
        ("scram-sha-256", SCRAM),
    ],
)
def test_each_method_asks_for_the_password(pooler: Pooler, rules: Rules, method: str, user: str) -> None:
    with rules.at(pooler, f"host all all all {method}"):
        assert refusal(pooler, APP, user, password=PASSWORDS[user]) == ""
        assert WRONG in refusal(pooler, APP, user, password="wrong")
        assert WRONG in refusal(pooler, APP, "stranger", password="wrong")


def test_trust_lets_in_whom_the_auth_file_names(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all all all trust"):
        assert refusal(pooler, APP, "alice") == ""
        assert refusal(pooler, APP, "stranger") == '"trust" authentication failed'


def test_reject_says_no_more_than_that(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all all all reject"):
        mark = pooler.log_mark()
        assert refusal(pooler, APP, "alice", password="alice-secret") == REJECTED
        pooler.wait_for_log(
            r"app/alice@127\.0\.0\.1:\d+ rejected by .*hba\.conf:2: host 127\.0\.0\.1, user alice, "
            r"database app, no encryption",
            since=mark,
        )


def test_nobody_comes_in_without_a_rule(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "local all all trust", "host all all 10.0.0.0/8 trust"):
        mark = pooler.log_mark()
        with pytest.raises(LoginRefused) as refused:
            pooler.raw(APP, "alice")
        assert (refused.value.fields["C"], refused.value.fields["M"]) == ("28000", NO_RULE)
        pooler.wait_for_log("no rule of auth_hba_file is for host 127.0.0.1, user alice", since=mark)


def test_hostssl_is_not_for_a_connection_in_the_clear(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "hostssl all all all trust"):
        assert refusal(pooler, APP, "alice") == NO_RULE
    with rules.at(pooler, "hostnossl all all all trust"):
        assert refusal(pooler, APP, "alice") == ""


# --- which rule ----------------------------------------------------------------------------------


def test_the_first_rule_that_fits_counts(pooler: Pooler, rules: Rules) -> None:
    lines = ("host app bob all reject", "host app all all scram-sha-256", "host all all all trust")
    with rules.at(pooler, *lines):
        assert refusal(pooler, APP, "bob", password="bob-secret") == REJECTED
        assert WRONG in refusal(pooler, APP, "alice", password="wrong")
        assert refusal(pooler, ONE, "bob") == ""


@pytest.mark.parametrize(
    ("rule", "database", "user", "comes_in"),
    [
        ("host sameuser all all trust", "alice", "alice", True),
        ("host sameuser all all trust", "alice", "bob", False),
        (r'host "/^ap{2}$" /^team_\d$ all trust', APP, "team_1", True),
        (r'host "/^ap{2}$" /^team_\d$ all trust', ONE, "team_1", False),
        (r'host "/^ap{2}$" /^team_\d$ all trust', APP, "alice", False),
        ("host all alice , bob 127.0.0.1 255.255.255.255 trust", APP, "bob", True),
        ('host "all" all all trust', APP, "alice", False),
        ("host all all samehost trust", APP, "alice", True),
        ("host all all samenet trust", APP, "alice", True),
        ("host all all 127.0.0.0/8 trust", APP, "alice", True),
        ("host all all 127.0.0.1/8 trust", APP, "alice", False),
        ("host replication all all trust", APP, "alice", False),
        ("host all \\\n  all all \\\n  trust", APP, "alice", True),
    ],
)
def test_whom_a_rule_is_for(
    pooler: Pooler, rules: Rules, rule: str, database: str, user: str, comes_in: bool
) -> None:
    with rules.at(pooler, rule):
        assert refusal(pooler, database, user) == ("" if comes_in else NO_RULE)


def test_names_may_stand_in_files_of_their_own(pooler: Pooler, rules: Rules) -> None:
    (rules.folder / "people").write_text("# ours\nalice\nbob\n")
    (rules.folder / "more.conf").write_text("host one all all trust\n")
    with rules.at(pooler, "host app @people all trust", "include more.conf"):
        assert refusal(pooler, APP, "bob") == ""
        assert refusal(pooler, APP, "team_1") == NO_RULE
        assert refusal(pooler, ONE, "team_1") == ""


def test_a_host_is_known_by_its_name_if_that_leads_back_to_it(pooler: Pooler, rules: Rules) -> None:
    name = confirmed_name("127.0.0.1")
    assert name, "the loopback has no name here"
    with rules.at(pooler, f"host app all {name.upper()} trust", "host one all .example.org trust"):
        assert refusal(pooler, APP, "alice") == ""
        assert refusal(pooler, ONE, "alice") == NO_RULE


# --- reading the files ---------------------------------------------------------------------------


def test_a_reload_counts_for_newcomers_and_leaves_the_others_alone(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all all all trust"):
        connection = pooler.connect(APP, "alice")
    with connection:
        assert refusal(pooler, APP, "alice") == NO_RULE
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_reload_of_a_file_with_a_mistake_changes_nothing(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all alice all trust"):
        rules.write("host all alice all reject", "host all all all ldap ldapserver=x")
        mark = pooler.log_mark()
        with pytest.raises(psycopg.Error, match="RELOAD failed") as refused:
            pooler.admin("RELOAD")
        message = f'{rules.hba}:3: auth_hba_file: the method "ldap" is not supported'
        assert message in str(refused.value.diag.message_detail)
        pooler.wait_for_log(f"{rules.hba}:3: auth_hba_file: the method", since=mark)
        assert refusal(pooler, APP, "alice") == ""


def test_a_file_with_a_mistake_stops_the_start_and_is_shown_by_check(server: Server) -> None:
    with Rules() as rules:
        rules.write("local all all peer map=nobody", "host all all all trsut")
        pooler = build(databases(server), rules.settings, user=server.user)
        expected = (
            f'{rules.hba}:2: auth_hba_file: there is no map "nobody" in auth_ident_file',
            f'{rules.hba}:3: auth_hba_file: unknown method "trsut", did you mean "trust"?',
        )
        with pytest.raises(StartFailed) as failed:
            pooler.start()
        done = run_to_the_end("check", str(pooler.config))
        pooler.stop()
        assert done.returncode == 1
        for line in expected:
            assert line in str(failed.value)
            assert line in done.stdout + done.stderr


def test_a_rule_that_lets_nobody_in_is_pointed_out_by_check(server: Server) -> None:
    with Rules() as rules:
        rules.write("hostssl all all all md5", "host all all 10.1.1.1/8 md5")
        pooler = build(databases(server), rules.settings, user=server.user)
        done = run_to_the_end("check", str(pooler.config))
        pooler.stop()
        assert f"{rules.hba}:2: warning: auth_hba_file: is for nobody while" in done.stdout + done.stderr
        assert f"{rules.hba}:3: warning: auth_hba_file: the address has bits" in done.stdout + done.stderr


def test_another_file_can_be_set_on_the_console(pooler: Pooler, rules: Rules) -> None:
    other = rules.folder / "other.conf"
    other.write_text(f"host pgbouncer {ADMIN} all trust\nhost all all all trust\n")
    pooler.admin(f"SET auth_hba_file = '{other}'")
    assert refusal(pooler, APP, "alice") == ""
    other.write_text("nonsense\n")
    with pytest.raises(psycopg.Error, match="SET failed"):
        pooler.admin(f"SET auth_hba_file = '{other}'")
    assert refusal(pooler, APP, "alice") == ""
    pooler.admin("RELOAD")
    assert refusal(pooler, APP, "alice") == NO_RULE


def test_refused_logins_are_counted_by_the_method_of_their_rule(launch: Launch, server: Server) -> None:
    with Rules() as rules:
        rules.write("host app alice all scram-sha-256", "host app bob all md5", "host app all all reject")
        port = free_port()
        settings = {**rules.settings, "metrics_addr": "127.0.0.1", "metrics_port": port}
        pooler = launch(databases(server, user=server.user), settings, secrets={"alice": "x", "bob": "x"})
        for user in ("alice", "bob", "bob", "carol"):
            refusal(pooler, APP, user, password="wrong")
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        counted = dict(re.findall(r'auth_failures_total\{method="(.+?)"\} (\S+)', page))
        assert counted == {"scram-sha-256": "1.0", "md5": "2.0", "hba": "1.0"}


# --- the console ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [CONSOLE, "howdah"])
def test_the_console_has_rules_under_either_of_its_names(launch: Launch, server: Server, name: str) -> None:
    with Rules() as rules:
        lines = (f"host pgbouncer {ADMIN} all scram-sha-256", "host pgbouncer all all reject")
        rules.hba.write_text("\n".join((*lines, "host all all all trust\n")))
        pooler = launch(databases(server, user=server.user), rules.settings)
        assert WRONG in refusal(pooler, name, ADMIN, password="wrong")
        assert refusal(pooler, name, "watcher") == REJECTED
        with pooler.connect(name, ADMIN, password="boss-secret") as console:
            assert console.execute("SHOW VERSION").fetchone() is not None


def test_a_rule_opens_the_door_of_the_console_and_admin_users_says_who_may_act(
    pooler: Pooler, rules: Rules
) -> None:
    with rules.at(pooler, "host all all all trust"):
        assert refusal(pooler, CONSOLE, "alice") == "not allowed"
