"""Suspicious combinations are pointed out, ordinary ones are not."""

from pathlib import Path

import pytest

from config.hints import hints
from config.problems import Problem, Severity
from config.secret import Secret
from config.settings import Settings


def make(tmp_path: Path, **values: object) -> Settings:
    """Settings with nothing to complain about, but for the values given."""
    users = tmp_path / "users.txt"
    users.write_text('"u" "pw"\n')
    users.chmod(0o600)
    ordinary: dict[str, object] = {
        "unix_socket_dir": str(tmp_path),
        "auth_file": str(users),
        "credentials": {"u": "pw"},
        "databases": {"app": {"host": "h"}},
    }
    return Settings.model_validate(ordinary | values)


def found(settings: Settings) -> list[tuple[str, str, Severity]]:
    return [(problem.key, problem.message, problem.severity) for problem in hints(settings, {}, "f")]


def test_ordinary_settings_give_no_hint(tmp_path: Path) -> None:
    assert found(make(tmp_path)) == []


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"listen_port": 0}, "listen_port", "any free port"),
        ({"unix_socket_dir": "/none/such"}, "unix_socket_dir", "there is no directory /none/such"),
        ({"auth_file": None}, "auth_type", "without auth_file nobody can log in with auth_type md5"),
        ({"auth_type": "hba"}, "auth_type", "without auth_hba_file nobody can log in"),
        ({"auth_hba_file": "f"}, "auth_hba_file", "has no effect while auth_type is md5"),
        ({"auth_type": "cert"}, "auth_type", "without client_tls_ca_file nobody can log in"),
        (
            {"auth_type": "cert", "client_tls_ca_file": "ca"},
            "auth_type",
            "with client_tls_sslmode disable nobody can log in",
        ),
        ({"auth_type": "any"}, "app", "nobody can use a database that has no user of its own"),
        ({"admin_users": "u, v"}, "admin_users", '"v" is not in auth_file'),
        ({"stats_users": "v"}, "stats_users", '"v" is not in auth_file'),
        (
            {"auth_type": "scram-sha-256", "credentials": {"u": "md5" + "0" * 32}},
            "auth_file",
            '"u" has only an md5 secret',
        ),
        ({"auth_user": "v"}, "auth_user", '"v" is not in auth_file: servers must let it in without'),
        ({"databases": {"a": {"auth_user": "v"}}}, "auth_user", '"v" is not in auth_file'),
        ({"auth_user": "u", "auth_query": "select 1"}, "auth_query", "has no $1"),
        ({"databases": {"a": {"auth_user": "u", "auth_query": "q"}}}, "auth_query", "has no $1"),
        ({"auth_query": "select $1"}, "auth_query", "has no effect without auth_user"),
        ({"auth_user": "u", "auth_dbname": "x"}, "auth_dbname", 'there is no database "x"'),
        (
            {"databases": {"a": {"auth_user": "u", "auth_dbname": "pgbouncer"}}},
            "auth_dbname",
            'cannot use the reserved "pgbouncer" database',
        ),
        ({"auth_user": "u", "databases": {"*": {}}}, "*", "runs in whichever database a client names"),
        ({"reserve_pool_size": 1, "reserve_pool_timeout": 0}, "reserve_pool_size", "has no effect"),
        ({"min_pool_size": 21}, "min_pool_size", "more than the pool size of 20"),
        ({"databases": {"a": {"pool_size": 2, "min_pool_size": 3}}}, "min_pool_size", "pool size of 2"),
        ({"min_pool_size": 3, "databases": {"a": {"pool_size": 2}}}, "min_pool_size", "pool size of 2"),
        ({"max_db_connections": 19}, "max_db_connections", "below its size of 20"),
        ({"databases": {"a": {"max_db_connections": 5}}}, "max_db_connections", "below its size of 20"),
        ({"databases": {}}, "databases", "console only"),
        ({"databases": {"a": {"password": "x"}}}, "password", "only together with user"),
        ({"databases": {"*": {"dbname": "x"}}}, "dbname", 'every database that has no entry leads to "x"'),
        ({"server_tls_ca_file": "ca"}, "server_tls_ca_file", "sslmode prefer checks no certificate"),
        ({"databases": {"a": {"sslrootcert": "ca"}}}, "sslrootcert", "sslmode prefer checks no certificate"),
    ],
)
def test_warning(tmp_path: Path, values: dict[str, object], key: str, message: str) -> None:
    ((where, said, severity),) = found(make(tmp_path, **values))
    assert (where, severity) == (key, Severity.WARNING)
    assert message in said


@pytest.mark.parametrize(
    "values",
    [
        {"unix_socket_dir": "@abstract"},
        {"unix_socket_dir": "", "listen_addr": "*"},
        {"auth_type": "any", "auth_file": None, "databases": {"a": {"user": "x", "password": "y"}}},
        {"admin_users": "v", "credentials": {}},
        {"auth_type": "scram-sha-256", "credentials": {"u": ["md5x", "plain"], "v": []}},
        {"auth_type": "hba", "auth_hba_file": "f"},
        {"auth_type": "cert", "client_tls_ca_file": "ca", "client_tls_sslmode": "require"},
        {"auth_user": "u", "auth_dbname": "app", "admin_users": "v"},
        {"auth_user": "u", "databases": {"*": {"auth_dbname": "x"}}},
        {"reserve_pool_size": 1},
        {"min_pool_size": 20, "max_db_connections": 20},
        {"default_pool_size": 0, "min_pool_size": 5, "max_db_connections": 5},
        {"client_tls_sslmode": "disable", "server_tls_sslmode": "disable"},
        {"server_tls_ca_file": "ca", "databases": {"a": {"sslmode": "verify-ca"}}},
        {"databases": {"a": {"sslmode": "require", "sslnegotiation": "direct"}}},
        {"metrics_port": 6432, "listen_addr": "10.0.0.1"},
        {"metrics_port": 6432, "listen_addr": "*", "metrics_addr": ""},
        {"databases": {"*": {"host": "x"}}},
    ],
)
def test_no_warning(tmp_path: Path, values: dict[str, object]) -> None:
    assert found(make(tmp_path, **values)) == []


@pytest.mark.parametrize(
    ("values", "key", "message"),
    [
        ({"unix_socket_dir": ""}, "listen_addr", "nowhere to listen"),
        ({"metrics_port": 6432, "listen_addr": "*"}, "metrics_port", "is the port that clients connect to"),
        ({"metrics_port": 6432, "listen_addr": "127.0.0.1"}, "metrics_port", "is the port that clients"),
        (
            {"server_tls_sslnegotiation": "direct"},
            "server_tls_sslnegotiation",
            "direct needs sslmode require",
        ),
        (
            {"databases": {"a": {"sslnegotiation": "direct"}}},
            "sslnegotiation",
            "direct needs sslmode require",
        ),
        ({"server_tls_ca_file": "system"}, "server_tls_ca_file", "system needs sslmode verify-full"),
        ({"databases": {"a": {"sslkey": "k"}}}, "sslkey", "is the key of no certificate"),
    ],
)
def test_error(tmp_path: Path, values: dict[str, object], key: str, message: str) -> None:
    ((where, said, severity),) = found(make(tmp_path, **values))
    assert (where, severity) == (key, Severity.ERROR)
    assert message in said


def test_auth_file_that_everybody_can_read(tmp_path: Path) -> None:
    settings = make(tmp_path)
    (tmp_path / "users.txt").chmod(0o644)
    ((key, message, _),) = found(settings)
    assert key == "auth_file"
    assert "every user of this machine can read" in message


def test_hint_stands_at_the_line_of_the_key(tmp_path: Path) -> None:
    place = Problem("a.ini", 7, "password", "")
    settings = make(tmp_path, databases={"a": {"password": Secret(b"x")}})
    (problem,) = hints(settings, {("databases", "a", "password"): place}, "f")
    assert (problem.file, problem.line, problem.key) == ("a.ini", 7, "password")


def test_hint_about_a_key_that_is_not_written_stands_at_the_table_around_it(tmp_path: Path) -> None:
    settings = make(tmp_path, min_pool_size=3, databases={"a": {"pool_size": 2}})
    (problem,) = hints(settings, {("databases", "a"): Problem("a.ini", 7, "a", "")}, "f")
    assert (problem.file, problem.line, problem.key) == ("a.ini", 7, "min_pool_size")


def test_hint_about_settings_without_a_file(tmp_path: Path) -> None:
    (problem,) = hints(make(tmp_path, databases={}), {}, None)
    assert str(problem).startswith("settings: warning: databases:")


@pytest.mark.parametrize("key", ["auth_hba_file", "auth_ident_file"])
def test_rules_that_everybody_can_change_are_pointed_out(tmp_path: Path, key: str) -> None:
    rules = tmp_path / "rules"
    rules.touch(mode=0o644)
    settings = make(tmp_path, **{"auth_type": "hba", "auth_hba_file": str(tmp_path / "h"), key: str(rules)})
    assert found(settings) == []
    rules.chmod(0o666)
    assert found(settings) == [(key, "every user of this machine can change it", Severity.WARNING)]
