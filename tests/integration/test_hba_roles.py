"""Rules by role: `+role` and `samerole` are asked of the server, by the role that asks auth_query."""

import os
import pwd
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Launch
from tests.support.pooler import Pooler
from tests.support.rules import Rules, refusal
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only

pytestmark = howdah_only("PgBouncer's rules know no roles")

NO_RULE = "no authentication method is found"
ROLES = (
    "create role hba_staff",
    "create role hba_admins in role hba_staff",
    "create role hba_member login in role hba_admins",
    "create role hba_plain login",
    "create role hba_super login superuser",
    'create role "hba \'odd"" one" login in role hba_staff',
)
MEMBER, PLAIN, SUPER, ODD = "hba_member", "hba_plain", "hba_super", "hba 'odd\" one"


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    with Rules() as rules:
        yield rules


@pytest.fixture(scope="module")
def roles(server: Server) -> Iterator[None]:
    for statement in ROLES:
        server.sql(statement)
    yield
    names = ", ".join(statement.split(" login")[0].split(" in role")[0][12:] for statement in ROLES)
    server.sql(f"drop role {names}")


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, rules: Rules, roles: None) -> Pooler:
    entries = {
        APP: entry(server, user=server.user, auth_user=server.postgres.user),
        "hba_staff": entry(server, user=server.user, auth_user=server.postgres.user),
        "lonely": entry(server, user=server.user),
    }
    settings = {**rules.settings, "unix_socket_dir": str(rules.sockets)}
    return module_launch(entries, settings, secrets={"listed": "", server.postgres.user: ""})


def test_a_member_of_the_role_comes_in_also_by_way_of_another_role(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_staff all trust"):
        assert refusal(pooler, APP, MEMBER) == ""
        assert refusal(pooler, APP, ODD) == ""
        assert refusal(pooler, APP, PLAIN) == NO_RULE


def test_a_superuser_is_no_member_of_all_roles(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_staff all trust"):
        assert refusal(pooler, APP, SUPER) == NO_RULE


def test_a_role_that_does_not_exist_has_no_members(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_nothing all trust"):
        assert refusal(pooler, APP, MEMBER) == NO_RULE


def test_a_user_is_a_member_of_itself(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_plain all trust"):
        assert refusal(pooler, APP, PLAIN) == ""
        assert refusal(pooler, APP, MEMBER) == NO_RULE


@pytest.mark.parametrize("word", ["samerole", "samegroup"])
def test_the_database_may_be_named_as_a_role_of_the_user(pooler: Pooler, rules: Rules, word: str) -> None:
    with rules.at(pooler, f"host {word} all all trust"):
        assert refusal(pooler, "hba_staff", MEMBER) == ""
        assert refusal(pooler, "hba_staff", PLAIN) == NO_RULE
        assert refusal(pooler, APP, MEMBER) == NO_RULE


def test_membership_counts_as_it_is_at_each_login(pooler: Pooler, server: Server, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_staff all trust"):
        assert refusal(pooler, APP, PLAIN) == NO_RULE
        server.sql("grant hba_staff to hba_plain")
        try:
            assert refusal(pooler, APP, PLAIN) == ""
        finally:
            server.sql("revoke hba_staff from hba_plain")
        assert refusal(pooler, APP, PLAIN) == NO_RULE


def test_a_user_whom_nobody_knows_has_no_roles(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_staff all reject", "host all all all scram-sha-256"):
        assert refusal(pooler, APP, MEMBER) == "login rejected"
        assert "authentication failed" in refusal(pooler, APP, "hba_unheard", password="x")


def test_where_nobody_can_be_asked_nobody_comes_in(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all +hba_staff all reject", "host all all all trust"):
        mark = pooler.log_mark()
        assert refusal(pooler, "lonely", "listed") == "bouncer config error"
        pooler.wait_for_log('database "lonely" has no auth_user who could ask', since=mark)


def test_roles_are_not_asked_for_where_the_rules_do_not_need_them(pooler: Pooler, rules: Rules) -> None:
    with rules.at(pooler, "host all listed all trust", "host all +hba_staff all reject"):
        assert refusal(pooler, "lonely", "listed") == ""


def test_a_map_may_ask_for_a_role_too(pooler: Pooler, rules: Rules) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    with rules.at(pooler, "local all all peer map=m", maps=(f"m {me} +hba_staff", f"m {me} hba_nobody")):
        assert refusal(pooler, APP, MEMBER, host=str(rules.sockets)) == ""
        assert refusal(pooler, APP, PLAIN, host=str(rules.sockets)) == "unix socket login rejected"


def test_a_peer_may_be_a_user_whom_only_the_server_knows(pooler: Pooler, rules: Rules) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    with rules.at(pooler, "local all all peer map=m", maps=(f"m {me} all",)):
        assert refusal(pooler, APP, PLAIN, host=str(rules.sockets)) == ""
        assert refusal(pooler, APP, "hba_unheard", host=str(rules.sockets)) == "unix socket login rejected"
