"""PostgreSQL is asked what it makes of the lines of rules and maps that we read, or refuse."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest

from config.hba import AnyWhere, HostName, Names, Network, Rule
from config.hba_parser import parse_hba
from config.ident import parse_ident
from config.problems import Severity
from tests.support.postgres import PostgresServer
from tests.support.standard import howdah_only

pytestmark = howdah_only("PgBouncer reads fewer kinds of lines")

_DATABASES = (
    *("all", "a", "b", '"a b"', '"all"', "sameuser", "samerole", "samegroup", "replication", "+g", '"+g"'),
    *("/^x$", '"/^a{1,2}$"', 'a"b c"d', "x\\y", '"q""q"', "All", '"#"'),
)
_USERS = (
    *("all", "a", "b", '"a b"', '"all"', "+g", '"+g"', "/^x$", "A", '"replication"', '"sameuser"', "/(", "é"),
)
_ADDRESSES = (
    *("all", "samehost", "samenet", "10.0.0.0/8", "10.0.0.0 255.0.0.0", "::1/128", "fe80::/10", "::1/129"),
    *("::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "localhost", ".example.org", "a.b/8", "10.0.0.0/33"),
    *("10.0.0.0", "10.0.0.0/", "1.2.3.4/32", '"all"', "10.0.0.0 ffff::"),
)
_METHODS = ("trust", "reject", "md5", "scram-sha-256", "password", "peer", "trsut", '"trust"')
_OPTIONS = ("", "", "", "", "map=x", "x", "clientcert=verify-ca", "foo=bar")


def names(choose: random.Random, words: Sequence[str]) -> str:
    comma = choose.choice((",", ", "))
    return comma.join(choose.choice(words) for _ in range(choose.choice((1, 1, 1, 2, 3))))


def rule(choose: random.Random) -> str:
    """A line that both may read, or refuse; nothing that only one of the two knows."""
    kind = choose.choice(("local", "local", "host", "host", "hostnossl", "hostx"))
    parts = [kind, names(choose, _DATABASES), names(choose, _USERS)]
    if kind != "local":
        parts.append(choose.choice(_ADDRESSES))
    parts += [choose.choice(_METHODS), choose.choice(_OPTIONS)]
    if choose.random() < 0.1:
        parts = parts[: choose.randint(1, len(parts))]
    return choose.choice((" ", "\t", "  ")).join(parts) + choose.choice(("", "", " # and so on"))


def mapping(choose: random.Random) -> str:
    users = ("all", '"all"', "a", "+g", '"+g"', "/^x$", r"\1", "/(", r"x\1y", '"a b"', "@")
    system = ("a", '"a b"', "/^x$", "/^(.*)@x$", "/(", '"/^a{1,2}$"')
    parts = [choose.choice(("m", '"m m"')), choose.choice(system), choose.choice(users)]
    if choose.random() < 0.1:
        parts = parts[: choose.randint(1, 3)]
    return " ".join(parts)


@pytest.fixture
def asks(
    new_postgres: Callable[..., PostgresServer],
) -> Callable[[str, str, str], dict[int, tuple[object, ...]]]:
    """Asks a PostgreSQL what it makes of a file: the columns of a view by line number."""
    server = new_postgres()

    def ask(setting: str, text: str, query: str) -> dict[int, tuple[object, ...]]:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            ((path,),) = connection.execute(f"show {setting}".encode()).fetchall()
            before = Path(path).read_text()
            Path(path).write_text(text)
            try:
                return {row[0]: row[1:] for row in connection.execute(query.encode())}
            finally:
                Path(path).write_text(before)

    return ask


def written(names: Names) -> set[str]:
    """A list as PostgreSQL's view shows it."""
    patterns = {f"/{pattern.text}" for pattern in names.patterns}
    return {*names.words, *patterns, *(f"+{group}" for group in names.groups), *names.keywords}


def described(rule: Rule) -> tuple[object, ...]:
    place = rule.place
    address, mask = None, None
    if isinstance(place, AnyWhere):
        address = place.value
    elif isinstance(place, HostName):
        address = place.pattern
    elif isinstance(place, Network):
        address, mask = str(place.prefix.network_address), str(place.prefix.netmask)
    return (written(rule.databases), written(rule.users), address, mask, rule.method.value)


def test_postgresql_reads_the_same_rules(
    asks: Callable[[str, str, str], dict[int, tuple[object, ...]]],
) -> None:
    choose = random.Random(1)
    text = "\n".join(rule(choose) for _ in range(2000)) + "\n"
    columns = "line_number, database, user_name, address, netmask, auth_method, error"
    theirs = asks("hba_file", text, f"select {columns} from pg_hba_file_rules")
    rules, file = parse_hba(text.encode(), "rules")
    ours = {rule.line: rule for rule in rules}
    errors = {problem.line for problem in file.problems if problem.severity is Severity.ERROR}
    assert len(ours) > 300
    for number, line in enumerate(text.splitlines(), 1):
        databases, users, *others, error = theirs[number]
        assert (number in errors) == (error is not None), (line, error)
        if number in ours:
            assert isinstance(databases, list)
            assert isinstance(users, list)
            assert described(ours[number]) == (set(databases), set(users), *others), line


def test_postgresql_reads_the_same_maps(
    asks: Callable[[str, str, str], dict[int, tuple[object, ...]]],
) -> None:
    choose = random.Random(2)
    lines = [mapping(choose) for _ in range(800)]
    # PostgreSQL notices only at a login that there are no parentheses for this.
    lines = [line for line in lines if r"\1" not in line or "(.*)" in line]
    text = "\n".join(lines) + "\n"
    query = "select line_number, map_name, sys_name, pg_username, error from pg_ident_file_mappings"
    theirs = asks("ident_file", text, query)
    mappings, file = parse_ident(text.encode(), "maps")
    errors = {problem.line for problem in file.problems}
    assert {number for number, row in theirs.items() if row[-1] is not None} == errors
    good = [row for _, row in sorted(theirs.items()) if row[-1] is None]
    assert [row[0] for row in good] == [mapping.map for mapping in mappings]
    assert len(good) > 200
