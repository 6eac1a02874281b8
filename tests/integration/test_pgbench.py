"""pgbench, 64 clients on 8 servers: nothing fails, and PostgreSQL never has to refuse a login of ours."""

import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import APP, SESSION, databases, entry, howdah_only
from tests.support.target import Target

pytestmark = pytest.mark.usefixtures("alive")

LIMITED = "limited"
SECRET = "limited-secret"


@pytest.fixture(scope="module", autouse=True)
def tables(server: Server) -> None:
    run_pgbench(server, server, server.database, "--initialize", "--quiet", "--scale=1")


def run_pgbench(server: Server, target: Target, database: str, *options: str) -> str:
    """Runs pgbench against the target; its output. It fails the test if pgbench fails."""
    command = [str(server.postgres.pgbench), "-h", target.host, "-p", str(target.port), "-U", target.user]
    done = subprocess.run(
        [*command, *options, database], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(output: str, transactions: int) -> None:
    """All transactions were done, none failed."""
    done = re.search(r"actually processed: (\d+)/\d+", output)
    failed = re.search(r"failed transactions: (\d+)", output)
    assert done is not None, output
    assert failed is not None, output
    assert (int(done[1]), int(failed[1])) == (transactions, 0), output


LOADS = pytest.mark.parametrize("load", ["tpcb-like", "select-only"])


@LOADS
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_64_clients_on_8_servers_in_transaction_mode(
    pooler: Pooler, server: Server, load: str, protocol: str
) -> None:
    options = ["-n", "-c", "64", "-j", "2", "-t", "30", "-M", protocol, "-b", load]
    check(run_pgbench(server, pooler, APP, *options), 64 * 30)
    assert len(server.backends(pooler.user)) <= 8 + 2


@LOADS
@pytest.mark.parametrize("kept", [200, 2], ids=["usual", "two statements per server"])
def test_64_clients_with_prepared_statements_on_8_servers_in_transaction_mode(
    pooler: Pooler, server: Server, load: str, kept: int
) -> None:
    """A thread for each client: pgbench blocks in Parse while its other clients hold the servers."""
    options = ["-n", "-c", "64", "-j", "64", "-t", "30", "-M", "prepared", "-b", load]
    with pooler.with_settings(max_prepared_statements=kept):
        check(run_pgbench(server, pooler, APP, *options), 64 * 30)
    assert len(server.backends(pooler.user)) <= 8 + 2


PIPELINE = """
\\set n random(1, 100000)
\\startpipeline
select abalance from pgbench_accounts where aid = :n;
update pgbench_branches set bbalance = bbalance + 1 where bid = 1;
select :n::int + 1;
\\endpipeline
"""


def test_64_clients_with_prepared_statements_in_pipelines(
    pooler: Pooler, server: Server, tmp_path: Path
) -> None:
    script = tmp_path / "pipeline.sql"
    script.write_text(PIPELINE)
    options = ["-n", "-c", "64", "-j", "64", "-t", "20", "-M", "prepared", "-f", str(script)]
    check(run_pgbench(server, pooler, APP, *options), 64 * 20)


@LOADS
@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_64_clients_on_8_servers_in_session_mode(
    pooler: Pooler, server: Server, load: str, protocol: str
) -> None:
    """A thread for each client, for the same reason."""
    options = ["-n", "-c", "64", "-j", "64", "-t", "30", "-M", protocol, "-b", load]
    check(run_pgbench(server, pooler, SESSION, *options), 64 * 30)


def test_new_connections_for_every_transaction(pooler: Pooler, server: Server) -> None:
    options = ["-n", "-c", "16", "-j", "2", "-t", "20", "-C", "-b", "select-only"]
    check(run_pgbench(server, pooler, APP, *options), 16 * 20)


@pytest.fixture(scope="module")
def limited(module_launch: Launch, server: Server) -> Pooler:
    """A pooler that logs in as a role which PostgreSQL allows exactly the pool's eight connections."""
    if not server.value("select count(*) from pg_roles where rolname = %s", [LIMITED]):
        server.sql(f"create role {LIMITED} login connection limit 8 password '{SECRET}'")
    server.sql(f"grant all on all tables in schema public to {LIMITED}")
    limit = entry(server, user=LIMITED, password=SECRET, pool_size=8)
    entries = {**databases(server), APP: limit}
    return module_launch(entries, {"server_lifetime": 1})


@howdah_only("PgBouncer opens a new connection before the old one has ended")
@pytest.mark.parametrize("protocol", ["simple", "prepared"])
def test_postgresql_refuses_no_login_of_ours(limited: Pooler, server: Server, protocol: str) -> None:
    """Clients killed in mid-query, server_lifetime = 1 and RECONNECT, as a role with CONNECTION LIMIT 8."""
    before = len(server.postgres.log())
    stop = threading.Event()

    def kill_clients() -> None:
        while not stop.is_set():
            client = limited.raw(APP)
            client.send(m.query("select pg_sleep(5)"))
            time.sleep(0.05)
            client.reset()

    def reconnect() -> None:
        while not stop.wait(0.4):
            limited.admin("RECONNECT")

    threads = [threading.Thread(target=kill_clients) for _ in range(6)] + [threading.Thread(target=reconnect)]
    for thread in threads:
        thread.start()
    try:
        options = ["-n", "-c", "32", "-j", "32", "-T", "4", "-M", protocol, "-b", "tpcb-like"]
        output = run_pgbench(server, limited, APP, *options)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert "failed transactions: 0 " in output
    log = server.postgres.log()[before:]
    refusals = [line for line in log.splitlines() if "too many connections" in line or "FATAL" in line]
    assert [line for line in refusals if "terminating connection" not in line] == []
