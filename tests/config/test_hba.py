"""Which rule is for whom. Nobody is asked for what does not decide."""

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from config.hba import Arrival, Ask, HostName, match
from config.hba_parser import parse_hba

INTERFACES = (ip_interface("192.168.7.5/24"), ip_interface("fd00::5/64"), ip_interface("127.0.0.1/8"))


def arrival(
    address: str = "unix", database: str = "db", user: str = "user", *, tls: bool = False, **facts: Any
) -> Arrival:
    where = None if address == "unix" else ip_address(address)
    return Arrival(database, user, where, tls, interfaces=INTERFACES, **facts)


def decide(rules: str, who: Arrival) -> str | Ask:
    """The method of the rule that applies; refused without one."""
    found, file = parse_hba(rules.encode(), "rules")
    assert [problem for problem in file.problems if problem.severity == "error"] == []
    rule = match(found, who)
    return "none" if rule is None else rule if isinstance(rule, Ask) else rule.method.value


@pytest.mark.parametrize(
    ("kind", "unix", "plain", "tls"),
    [
        ("local", True, False, False),
        ("host", False, True, True),
        ("hostssl", False, False, True),
        ("hostnossl", False, True, False),
        ("hostnogssenc", False, True, True),
    ],
)
def test_a_rule_is_for_its_type_of_connection(kind: str, unix: bool, plain: bool, tls: bool) -> None:
    rule = "local all all trust" if kind == "local" else f"{kind} all all all trust"
    connections = (arrival(), arrival("10.0.0.1"), arrival("10.0.0.1", tls=True))
    assert tuple(decide(rule, who) == "trust" for who in connections) == (unix, plain, tls)


def test_the_first_rule_that_fits_counts_and_no_other() -> None:
    rules = "local db user reject\nlocal db all md5\nlocal all all trust"
    assert decide(rules, arrival()) == "reject"
    assert decide(rules, arrival(user="other")) == "md5"
    assert decide(rules, arrival(database="other")) == "trust"
    assert decide("", arrival()) == "none"


@pytest.mark.parametrize(
    ("address", "fits", "fits_not"),
    [
        (
            "10.0.0.0/8",
            ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            ["11.0.0.0", "9.255.255.255", "::10.0.0.1"],
        ),
        ("127.0.0.0 255.255.255.0", ["127.0.0.3"], ["127.0.1.4"]),
        ("199.199.199.199/32", ["199.199.199.199"], ["199.199.199.198", "199.199.199.200"]),
        ("0.0.0.0/0", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1"]),
        ("128.0.0.0/1", ["128.0.0.0", "254.1.1.1"], ["127.255.255.255"]),
        ("ff11::0/16", ["ff11:2::1"], ["ff12::1"]),
        ("ff20::/12", ["ff22:3::1", "ff2f::"], ["ff30::"]),
        ("::1/128", ["::1"], ["::2", "127.0.0.1"]),
        ("::/0", ["::1", "face::1"], ["1.2.3.4"]),
        ("::ffff:0:0/96", ["::ffff:1.2.3.4"], ["1.2.3.4", "::1"]),
        ("all", ["1.2.3.4", "face::1"], ["unix"]),
        ("samehost", ["192.168.7.5", "fd00::5", "127.0.0.1", "::ffff:192.168.7.5"], ["192.168.7.6", "::1"]),
        ("samenet", ["192.168.7.77", "fd00::77", "127.9.9.9"], ["192.168.8.5", "fd00:0:0:1::5"]),
    ],
)
def test_where_a_rule_is_for(address: str, fits: list[str], fits_not: list[str]) -> None:
    rule = f"host all all {address} trust"
    assert [where for where in fits if decide(rule, arrival(where)) != "trust"] == []
    assert [where for where in fits_not if decide(rule, arrival(where)) != "none"] == []


def test_an_address_with_bits_behind_its_mask_lets_nobody_in_and_refuses_all_it_may_mean() -> None:
    rules = "host all all 10.1.1.1/8 {}\nhost all all all md5"
    assert decide(rules.format("trust"), arrival("10.1.1.1")) == "md5"
    assert decide(rules.format("reject"), arrival("10.2.2.2")) == "reject"


@pytest.mark.parametrize(
    ("databases", "fits", "fits_not"),
    [
        ("all", ["db", "pgbouncer"], []),
        ("db1", ["db1"], ["db1x", "DB1", "db"]),
        ("d1,d2 , d3", ["d1", "d2", "d3"], ["d4", "d"]),
        ('"all"', ["all"], ["db"]),
        ('"q1""q2"', ['q1"q2'], ["q1"]),
        ("sameuser", ["user"], ["db"]),
        (r"/^app_\d$", ["app_1"], ["app_12", "xapp_1"]),
        ("pgbouncer", ["pgbouncer"], ["db"]),
        ("replication", [], ["db", "replication"]),
    ],
)
def test_which_databases_a_rule_is_for(databases: str, fits: list[str], fits_not: list[str]) -> None:
    rule = f"local {databases} all trust"
    assert [name for name in fits if decide(rule, arrival(database=name)) != "trust"] == []
    assert [name for name in fits_not if decide(rule, arrival(database=name)) != "none"] == []


@pytest.mark.parametrize(
    ("users", "fits", "fits_not"),
    [
        ("all", ["anybody"], []),
        ("u1,u2", ["u1", "u2"], ["u3", "U1"]),
        ('"a , b"', ["a , b"], ["a"]),
        ('"+g"', ["+g"], ["g"]),
        ('"/^a{1,2}$"', ["a", "aa"], ["aaa"]),
    ],
)
def test_which_users_a_rule_is_for(users: str, fits: list[str], fits_not: list[str]) -> None:
    rule = f"local all {users} trust"
    assert [name for name in fits if decide(rule, arrival(user=name)) != "trust"] == []
    assert [name for name in fits_not if decide(rule, arrival(user=name)) != "none"] == []


@pytest.mark.parametrize(
    "rule", ["local all +admins trust", "local samerole all trust", "local samegroup all trust"]
)
def test_roles_are_asked_for_where_they_decide(rule: str) -> None:
    def known(roles: frozenset[str] | None) -> Arrival:
        return arrival(database="admins", user="alice", roles=roles)

    assert decide(rule, known(None)) is Ask.ROLES
    assert decide(rule, known(frozenset({"alice", "admins"}))) == "trust"
    assert decide(rule, known(frozenset({"alice"}))) == "none"


@pytest.mark.parametrize(
    "rules",
    [
        "local all alice,+admins trust",
        "local db,samerole alice trust",
        "local other +admins md5\nlocal all alice trust",
        "host all +admins all md5\nlocal all alice trust",
        "local all alice trust\nlocal all +admins md5",
    ],
)
def test_roles_are_not_asked_for_where_they_do_not_decide(rules: str) -> None:
    assert decide(rules, arrival(user="alice")) == "trust"


@pytest.mark.parametrize(
    ("name", "host", "fits"),
    [
        ("db.example.org", "db.example.org", True),
        ("db.example.org", "DB.Example.Org", True),
        ("db.example.org", "x.db.example.org", False),
        (".example.org", "db.example.org", True),
        (".example.org", "a.b.EXAMPLE.org", True),
        (".example.org", "example.org", False),
        (".example.org", "badexample.org", False),
        ("db.example.org", "", False),
        (".example.org", "", False),
    ],
)
def test_names_of_hosts(name: str, host: str, fits: bool) -> None:
    rule = f"host all all {name} trust"
    assert decide(rule, arrival("10.0.0.1")) is Ask.HOST
    assert decide(rule, arrival("10.0.0.1", host=host)) == ("trust" if fits else "none")
    assert HostName(name).fits(host) is fits


def test_the_name_of_the_host_is_not_asked_for_where_it_does_not_decide() -> None:
    rules = (
        "host db other h.example.org md5\nhostssl all all h.example.org md5\nhost all all 10.0.0.1/32 trust"
    )
    assert decide(rules, arrival("10.0.0.1")) == "trust"


def test_what_is_known_is_not_asked_for_again() -> None:
    rule = "host all +admins .example.org trust"
    who = arrival("10.0.0.1")
    assert decide(rule, who) is Ask.HOST
    assert decide(rule, arrival("10.0.0.1", host="a.example.org")) is Ask.ROLES
    assert decide(rule, arrival("10.0.0.1", host="a.example.org", roles=frozenset({"admins"}))) == "trust"
    assert decide(rule, arrival("10.0.0.1", host="")) == "none"
