import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from proxy.demo.binaries import NoPostgres, find
from proxy.demo.postgres import (
    DEFAULT_HBA,
    Cluster,
    PostgresFailed,
    Role,
    free_port,
    quote_identifier,
    quote_literal,
)
from tests.support.accounts import ordinary_account, run_python

ODD = Role("od\"d ;na'me", 'pass\'word \\ "with" everything; ü')
MD5 = Role("md5", "secret", encryption="md5")
LIMITED = Role("limited", "secret", options="LOGIN CONNECTION LIMIT 1")

SCRIPT = """
import os
from proxy.demo.binaries import find
from proxy.demo.postgres import Cluster
with Cluster(find()) as cluster:
    print(cluster.sql("SELECT 6 * 7"), cluster.account, cluster.data.stat().st_uid == os.getuid())
print(cluster.folder.exists())
"""


def new(**options: object) -> Cluster:
    try:
        return Cluster(find(), **options)  # type: ignore[arg-type]
    except NoPostgres:
        pytest.skip("no PostgreSQL here")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    hba = ["host all md5 127.0.0.1/32 md5", *DEFAULT_HBA]
    with new(roles=[ODD, MD5, LIMITED], settings={"max_connections": "9"}, hba=hba) as cluster:
        yield cluster


@pytest.fixture
def stopped() -> Iterator[Cluster]:
    cluster = new()
    yield cluster
    cluster.close()


def connect(cluster: Cluster, role: Role | None = None) -> psycopg.Connection[tuple[object, ...]]:
    if role is None:
        return psycopg.connect(cluster.dsn(), autocommit=True)
    return psycopg.connect(cluster.dsn(user=role.name, password=role.password), autocommit=True)


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_runs_the_version_that_was_asked_for(cluster: Cluster) -> None:
    assert cluster.sql("SHOW server_version").split()[0] == cluster.binaries.release


def test_it_listens_on_the_loopback_address_and_on_a_unix_socket(cluster: Cluster) -> None:
    assert cluster.sql("SHOW listen_addresses") == "127.0.0.1"
    assert (cluster.socket_directory / f".s.PGSQL.{cluster.port}").is_socket()


def test_its_settings_win_over_the_defaults(cluster: Cluster) -> None:
    assert cluster.sql("SHOW max_connections") == "9"


@pytest.mark.parametrize("role", [ODD, MD5, LIMITED], ids=["odd characters", "md5", "limited"])
def test_a_role_logs_in_with_its_password(cluster: Cluster, role: Role) -> None:
    with connect(cluster, role) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role.name,)


def test_options_of_a_role_hold(cluster: Cluster) -> None:
    with connect(cluster, LIMITED), pytest.raises(psycopg.OperationalError, match="too many connections"):
        connect(cluster, LIMITED)


@pytest.mark.parametrize("password", [None, "wrong"])
def test_nobody_gets_in_without_the_password(cluster: Cluster, password: str | None) -> None:
    for host in (cluster.host, str(cluster.socket_directory)):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host=host, port=cluster.port, user="postgres", dbname="postgres", password=password
            )


def test_each_cluster_has_a_password_of_its_own(cluster: Cluster, stopped: Cluster) -> None:
    assert cluster.password != stopped.password


def test_variables_of_libpq_are_not_obeyed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=nowhere")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert cluster.sql("SHOW search_path") == '"$user", public'


def test_a_failing_statement_raises_with_the_servers_words(cluster: Cluster) -> None:
    with pytest.raises(PostgresFailed, match='relation "nothing" does not exist'):
        cluster.sql("SELECT * FROM nothing")


def test_the_password_is_not_among_the_words_of_a_command(cluster: Cluster) -> None:
    words = cluster.sql(r"\! tr '\0' ' ' < /proc/$PPID/cmdline || ps -ww -o args= -p $PPID")
    assert "psql" in words
    assert cluster.password not in words


@pytest.mark.parametrize("text", ["", "plain", "it's", "back\\slash", "\\'", "ü € \n\t", 'a"b', "--;/*"])
def test_a_quoted_literal_is_read_as_it_was(cluster: Cluster, text: str) -> None:
    with connect(cluster) as connection:
        assert connection.execute(f"SELECT {quote_literal(text)}".encode()).fetchone() == (text,)


@pytest.mark.parametrize("text", ["plain", "Mixed", 'a"b', "with space", "ü", "select"])
def test_a_quoted_identifier_is_read_as_it_was(cluster: Cluster, text: str) -> None:
    with connect(cluster) as connection:
        cursor = connection.execute(f"SELECT 1 AS {quote_identifier(text)}".encode())
        assert cursor.description is not None
        assert cursor.description[0].name == text


@pytest.mark.parametrize("quote", [quote_literal, quote_identifier])
def test_what_postgresql_cannot_hold_is_not_quoted(quote: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_a_restart_keeps_port_and_data(stopped: Cluster) -> None:
    stopped.start()
    port = stopped.port
    stopped.sql("CREATE TABLE kept (a int)")
    stopped.restart()
    assert stopped.port == port
    assert stopped.sql("SELECT count(*) FROM kept") == "0"


def test_an_immediate_stop_is_followed_by_recovery(stopped: Cluster) -> None:
    stopped.start()
    stopped.restart("immediate")
    assert "not properly shut down" in stopped.log_text()


def test_a_killed_server_starts_again_although_its_backends_linger(stopped: Cluster) -> None:
    stopped.start()
    with connect(stopped) as connection:
        stopped.kill()
        assert not stopped.running
        stopped.start()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert stopped.sql("SELECT 1") == "1"


def test_a_killed_backend_takes_the_others_along_and_the_server_recovers(stopped: Cluster) -> None:
    stopped.start()
    with connect(stopped) as victim, connect(stopped) as bystander:
        stopped.kill_backend(victim.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            bystander.execute("SELECT pg_sleep(10)")
    eventually(lambda: stopped.log_text().count("ready to accept connections") == 2)
    assert stopped.running


def test_a_suspended_server_can_be_stopped(stopped: Cluster) -> None:
    stopped.start()
    os.kill(stopped.pid, signal.SIGSTOP)
    stopped.stop()
    assert not stopped.running


def test_starting_twice_is_starting_once(stopped: Cluster) -> None:
    stopped.start()
    pid = stopped.pid
    stopped.start()
    assert stopped.pid == pid


def test_a_stopped_server_has_no_process_id(stopped: Cluster) -> None:
    with pytest.raises(PostgresFailed, match="does not run"):
        _ = stopped.pid


def test_new_login_rules_hold_after_a_reload(stopped: Cluster) -> None:
    stopped.start()
    stopped.write_hba(["host all all 127.0.0.1/32 reject"])
    stopped.reload()

    def refused() -> bool:
        try:
            connect(stopped).close()
        except psycopg.OperationalError as error:
            return "pg_hba.conf rejects" in str(error)
        return False

    eventually(refused)


def test_a_setting_that_does_not_exist_fails_with_the_servers_words() -> None:
    with pytest.raises(PostgresFailed, match='unrecognized configuration parameter "no_such_thing"'):
        new(settings={"no_such_thing": "1"}).start()


def test_a_port_taken_by_somebody_else_is_left_to_him() -> None:
    cluster = new()
    with socket.create_server((cluster.host, cluster.port)):
        first = cluster.port
        cluster.start()
        assert cluster.port != first
    cluster.close()


def test_a_port_that_was_asked_for_is_not_exchanged() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        cluster = new(port=taken.getsockname()[1])
        with pytest.raises(PostgresFailed, match="Address already in use"):
            cluster.start()


def test_a_role_that_cannot_be_made_fails_before_the_start() -> None:
    with pytest.raises(PostgresFailed, match="unrecognized role option"):
        new(roles=[Role("broken", options="NO_SUCH_OPTION")])


def test_closing_ends_the_server_and_removes_its_files(stopped: Cluster) -> None:
    stopped.start()
    port = stopped.port
    stopped.close()
    assert not stopped.folder.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((stopped.host, port))


def test_an_ordinary_user_can_run_it() -> None:
    done = run_python(SCRIPT, ordinary_account())
    assert done.stdout == "42 None True\nFalse\n", done.stderr


def test_it_speaks_tls_with_the_certificate_given(tmp_path: Path) -> None:
    try:
        binaries = find(origin="system")
    except NoPostgres:
        pytest.skip("no system PostgreSQL here")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl, the command")
    certificate, key = tmp_path / "crt.pem", tmp_path / "key.pem"
    kind = [
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ]
    make = [openssl, "req", *kind, "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    with Cluster(binaries, tls=(certificate, key)) as cluster:
        dsn = f"{cluster.dsn()} sslmode=verify-ca sslrootcert={certificate}"
        with psycopg.connect(dsn) as connection:
            assert connection.execute(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone() == (True,)
