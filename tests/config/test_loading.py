"""Loading as a whole: every source, every problem, in one pass."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
from config.problems import ConfigError, Severity
from config.secret import Secret
from config.types import PoolMode, UnknownParameters

Write = Callable[[str, str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    return write_file


def errors(path: str | None, environ: dict[str, str] | None = None, **overrides: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides=overrides, environ=environ or {})
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return str(caught.value).splitlines()


def test_ini_of_the_manual_loads(write: Write) -> None:
    users = write("users.txt", '"someuser" "same_password_as_in_server"\n')
    path = write(
        "pgbouncer.ini",
        f"""
; small example
[databases]
template1 = host=localhost dbname=template1
foodb =
bardb = host=localhost dbname=bazdb
forcedb = host=localhost port=300 user=baz password=foo client_encoding=UNICODE datestyle=ISO
[pgbouncer]
pool_mode = session
listen_port = 6432
listen_addr = localhost
auth_type = md5
auth_file = {users}
logfile = pgbouncer.log
pidfile = pgbouncer.pid
admin_users = someuser
stats_users = stat_collector
""",
    )
    settings = config.load(path, environ={})
    assert settings.listen_addr == ("localhost",)
    assert list(settings.databases) == ["template1", "foodb", "bardb", "forcedb"]
    assert settings.databases["forcedb"].password == Secret(b"foo")
    assert settings.credentials == {"someuser": (Secret(b"same_password_as_in_server"),)}
    assert settings.conffile == path
    assert settings.unknown_startup_parameters is UnknownParameters.REFUSE


def test_toml_has_the_same_keys_and_applies_unknown_startup_parameters(write: Write) -> None:
    path = write("a.toml", '[howdah]\npool_mode = "transaction"\n[databases.app]\nhost = "h"\n')
    settings = config.load(path, environ={})
    assert settings.pool_mode is PoolMode.TRANSACTION
    assert settings.databases["app"].host == "h"
    assert settings.unknown_startup_parameters is UnknownParameters.APPLY
    path = write("b.toml", '[pgbouncer]\nunknown_startup_parameters = "refuse"\n')
    assert config.load(path, environ={}).unknown_startup_parameters is UnknownParameters.REFUSE


def test_without_a_file_there_are_environment_and_overrides() -> None:
    settings = config.load(None, environ={"HOWDAH__POOL_MODE": "statement"}, overrides={"verbose": 2})
    assert (settings.pool_mode, settings.verbose, settings.conffile) == (PoolMode.STATEMENT, 2, None)


def test_overrides_beat_environment_beats_file_beats_default(write: Write) -> None:
    path = write("a.ini", "[pgbouncer]\nverbose = 1\nquery_timeout = 1\nmax_client_conn = 1\n")
    environ = {"HOWDAH__VERBOSE": "2", "HOWDAH__QUERY_TIMEOUT": "2"}
    settings = config.load(path, environ=environ, overrides={"verbose": "3"})
    found = (settings.verbose, settings.query_timeout, settings.max_client_conn, settings.min_pool_size)
    assert found == (3, 2.0, 1, 0)


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOWDAH__POOL_MODE", "transaction")
    assert config.load(None).pool_mode is PoolMode.TRANSACTION


def test_environment_changes_one_key_of_a_database_in_the_file(write: Write) -> None:
    path = write("a.ini", "[pgbouncer]\n[databases]\napp = host=a port=5\n")
    entry = config.load(path, environ={"HOWDAH__DATABASES__APP__HOST": "b"}).databases["app"]
    assert (entry.host, entry.port) == ("b", 5)


def test_every_problem_is_found_in_one_pass_in_the_order_of_the_file(write: Write) -> None:
    users = write("users.txt", '"a" "1"\nbroken\n')
    path = write(
        "a.ini",
        f"""[databases]
app = host=a,,b port=0 reserv_pool=1
pgbouncer = port=99999
bad = host
[pgbouncer]
auth_type = pam
auth_file = {users}
pool_mod = session
listen_port = 70000
stray
[peers]
1 = host=a prt=1
[usrs]
""",
    )
    found = errors(path, {"HOWDAH__VERBOS": "1"})
    assert found == [
        f"{path}:2: host: must not contain an empty name between commas",
        f"{path}:2: port: must be greater than or equal to 1",
        f'{path}:2: reserv_pool: unknown setting, did you mean "reserve_pool"?',
        f'{path}:3: pgbouncer: the database name "pgbouncer" is reserved for the console',
        f"{path}:3: port: must be less than or equal to 65535",
        f'{path}:4: bad: expected key=value, found "host"',
        f'{path}:6: auth_type: "pam" is not supported by this version',
        f'{path}:8: pool_mod: unknown setting, did you mean "pool_mode"?',
        f"{path}:9: listen_port: must be less than or equal to 65535",
        f"{path}:10: expected name = value, found: stray",
        f'{path}:12: prt: unknown setting, did you mean "port"?',
        f"{path}:12: 1: is not supported by this version, leave it unset",
        f'{path}:13: [usrs]: unknown section, did you mean "users"?',
        f'{users}:2: auth_file: expected "user" "secret"',
        'environment: HOWDAH__VERBOS: unknown setting, did you mean "verbose"?',
    ]


def test_problem_in_an_included_file_names_that_file(write: Write) -> None:
    inner = write("inner.ini", "pool_mode = x\n")
    path = write("a.ini", "[pgbouncer]\n%include inner.ini\n")
    assert errors(path) == [f"{inner}:1: pool_mode: must be 'session', 'transaction' or 'statement'"]


def test_toml_problems_have_lines(write: Write) -> None:
    path = write("a.toml", '[howdah]\nadmin_users = [1]\n\n[databases.app]\nhost = "a"\nprt = 1\n')
    assert errors(path) == [
        f"{path}:2: admin_users: must be a valid string",
        f'{path}:6: prt: unknown setting, did you mean "port"?',
    ]


def test_wrong_shapes_in_toml_and_overrides_are_problems(write: Write) -> None:
    path = write("a.toml", "[howdah]\n[databases]\na = 5\n[users]\nb = []\n")
    assert errors(path) == [
        f"{path}:3: databases.a: must be a table of settings",
        f"{path}:5: users.b: must be a table of settings",
    ]
    assert errors(None, users=5) == ["override: users: must be a table of settings"]
    assert errors(None, nonsense=5) == ["override: nonsense: unknown setting"]


@pytest.mark.parametrize("name", ["databases", "users", "peers", "credentials"])
def test_sections_and_credentials_are_not_keys_of_the_main_section(write: Write, name: str) -> None:
    ini = write("a.ini", f"[pgbouncer]\n{name} = x\n[databases]\na = host=b\n")
    toml = write("a.toml", f'[howdah.{name}]\nu = "x"\n[databases.a]\nhost = "b"\n')
    (from_ini,), (from_toml,) = errors(ini), errors(toml)
    assert from_ini.startswith(f"{ini}:2: {name}: unknown setting")
    assert from_toml.startswith(f"{toml}:1: {name}: unknown setting")


def test_variable_of_one_key_beats_a_section_of_the_wrong_shape() -> None:
    environ = {"HOWDAH__DATABASES": '{"a": 5}', "HOWDAH__DATABASES__A__HOST": "h"}
    assert config.load(None, environ=environ).databases["a"].host == "h"


WORDS = """[pgbouncer] [howdah] [databases] [databases.a] [users] [peers] [ ] = ' " { } , ; % * a 1 -1 0x1 é
pgbouncer host password pool_mode session verbose databases listen_addr
auth_type expand_env ${A} ${B} file:x"""
FRAGMENTS = st.sampled_from([*WORDS.split(), " ", "\n", "\0"])


@given(st.lists(FRAGMENTS, max_size=40).map("".join), st.sampled_from([".ini", ".toml"]))
def test_no_file_breaks_the_loading(tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"a{suffix}"
    path.write_text(text)
    for problem in config.check(str(path), environ={"A": "a", "HOWDAH__EXPAND_ENV": "1"}):
        assert problem.message
        assert "\n" not in str(problem)


def test_entry_from_the_environment_that_is_wrong_names_the_variable() -> None:
    found = errors(None, {"HOWDAH__DATABASES__A__PORT": "x", "HOWDAH__USERS": '{"u": 1}'})
    assert found == [
        "environment: HOWDAH__DATABASES__A__PORT: must be a whole number, not 'x'",
        "environment: HOWDAH__USERS: must be a table of settings",
    ]


@pytest.mark.parametrize("name", ["none.ini", "none.toml"])
def test_missing_file_is_an_error(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    assert errors(path) == [f"{path}: cannot be read: No such file or directory"]


def test_auth_file_that_is_set_and_missing_is_an_error(write: Write, tmp_path: Path) -> None:
    path = write("a.ini", "[pgbouncer]\nauth_file = none.txt\n")
    assert errors(path) == ["none.txt: auth_file: cannot be read: No such file or directory"]


def test_secrets_come_from_variables_and_files_in_toml(write: Write) -> None:
    write("pw.txt", "from file\r\n")
    path = write(
        "a.toml",
        '[howdah]\nlogfile = "${DIR}/x.log"\n[databases]\na = "user=u password=${PW}"\n'
        '[databases.b]\nuser = "u"\npassword = "file:pw.txt"\n',
    )
    settings = config.load(path, environ={"PW": "from 'variable", "DIR": "/d"})
    assert settings.databases["a"].password == Secret(b"from 'variable")
    assert settings.databases["b"].password == Secret(b"from file")
    assert settings.logfile == "/d/x.log"


def test_variable_or_file_that_does_not_exist_is_an_error(write: Write) -> None:
    path = write("a.toml", '[databases.b]\nhost = "${H}"\npassword = "file:/none/pw"\n')
    assert errors(path) == [
        f"{path}:2: host: the environment variable H is not set",
        f"{path}:3: password: /none/pw cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("setting", "environ", "expected"),
    [
        ("", {}, b"${PW}"),
        ("expand_env = 0", {}, b"${PW}"),
        ("expand_env = 1", {}, b"x"),
        ("", {"HOWDAH__EXPAND_ENV": "1"}, b"x"),
        ("expand_env = 1", {"HOWDAH__EXPAND_ENV": "0"}, b"${PW}"),
    ],
)
def test_ini_expands_only_when_told(
    write: Write, setting: str, environ: dict[str, str], expected: bytes
) -> None:
    path = write("a.ini", f"[databases]\na = user=u password=${{PW}}\n[pgbouncer]\n{setting}\n")
    settings = config.load(path, environ={"PW": "x", **environ})
    assert settings.databases["a"].password == Secret(expected)


def test_wrong_value_of_expand_env_is_an_error_and_expands_nothing(write: Write) -> None:
    path = write("a.ini", "[pgbouncer]\nexpand_env = maybe\nlogfile = ${NONE}\n")
    assert errors(path) == [f"{path}:2: expand_env: must be 0 or 1, not 'maybe'"]


def test_no_message_contains_a_password(write: Write) -> None:
    path = write(
        "a.ini",
        "[databases]\na = password='hunter2'x\nb = password=hunter2 oops\nc = user=u passwrd=hunter2\n"
        "d password=hunter2\n[pgbouncer]\n",
    )
    toml = write("a.toml", '[databases.a]\npassword = ["hunter2"]\n[databases.b]\npassword = "${hunter2"\n')
    found = errors(path) + errors(toml)
    assert len(found) == 5
    assert not any("hunter2" in line for line in found)


def test_check_returns_errors_and_warnings_together(write: Write) -> None:
    path = write("a.ini", "[pgbouncer]\nverbose = 1\nverbose = x\n")
    problems = config.check(path, environ={})
    assert [(problem.line, problem.key, problem.severity) for problem in problems] == [
        (0, "auth_type", Severity.WARNING),
        (0, "databases", Severity.WARNING),
        (3, "verbose", Severity.WARNING),
        (3, "verbose", Severity.ERROR),
    ]


def test_report_separates_errors_from_warnings_and_has_what_is_valid(write: Write) -> None:
    path = write("a.ini", "[pgbouncer]\nverbose = x\nmax_client_conn = 7\n[databases]\na = port=x host=h\n")
    report = config.read(path, environ={})
    assert [problem.line for problem in report.errors] == [2, 5]
    assert [problem.key for problem in report.warnings] == ["auth_type"]
    assert (report.settings.verbose, report.settings.max_client_conn) == (0, 7)
    assert (report.settings.databases["a"].host, report.settings.databases["a"].port) == ("h", 5432)


def test_warnings_do_not_stop_a_load(write: Write) -> None:
    path = write("a.ini", "[pgbouncer]\nclient_tls_sslmode = prefer\n")
    assert config.read(path, environ={}).warnings
    assert config.load(path, environ={}).client_tls_sslmode == "prefer"


def test_mistakes_in_the_rules_stop_the_start_with_their_line(write: Write) -> None:
    rules = write("hba.conf", "local all all trust\nlocal all all ldap\ninclude none.conf\n")
    maps = write("ident.conf", "m joe\n")
    path = write(
        "a.ini", "[pgbouncer]\nauth_type = hba\nauth_hba_file = hba.conf\nauth_ident_file = ident.conf\n"
    )
    beside = Path(rules).with_name("none.conf")
    assert errors(path) == [
        f'{rules}:2: auth_hba_file: the method "ldap" is not supported',
        f"{rules}:3: auth_hba_file: {beside}: cannot be read: No such file or directory",
        f"{maps}:1: auth_ident_file: expected three names: map, system user, user",
    ]


def test_rules_and_maps_are_part_of_the_settings(write: Write) -> None:
    write("hba.conf", "local all all peer map=m\n")
    write("ident.conf", "m joe alice\n")
    path = write(
        "a.ini", "[pgbouncer]\nauth_type = hba\nauth_hba_file = hba.conf\nauth_ident_file = ident.conf\n"
    )
    settings = config.load(path, environ={})
    assert [rule.map for rule in settings.hba] == ["m"]
    assert [mapping.system_user for mapping in settings.ident] == ["joe"]
    assert "joe" not in repr(settings)
