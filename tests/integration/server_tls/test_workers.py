"""What a worker leaves behind that is killed and had servers with TLS."""

import asyncio

import pytest

from tests.integration.conftest import Launch
from tests.integration.server_tls.conftest import only, trusting
from tests.support.certificates import Pki
from tests.support.crowd import Crowd
from tests.support.pooler import Value
from tests.support.rush import outlive_a_worker
from tests.support.server import Server
from tests.support.standard import howdah_only

pytestmark = howdah_only("only Howdah has workers")

POOL = 4
ROLE = "limited_with_tls"


@pytest.mark.parametrize("sleep", [0.0, 1.5])
def test_encrypted_servers_of_a_worker_that_was_killed_count_until_postgresql_has_closed_them(
    launch: Launch, secure: Server, pki: Pki, sleep: float
) -> None:
    """Nobody can say goodbye in the place of the dead: PostgreSQL hears of the end of the socket alone."""

    def busy() -> int:
        rows = secure.sql(
            "SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
            f" WHERE ssl AND usename = '{ROLE}' AND state = 'active'"
        )
        return int(str(rows[0][0]))

    secure.sql(f"CREATE ROLE {ROLE} LOGIN CONNECTION LIMIT {POOL} PASSWORD 'a secret'")
    try:
        servers: dict[str, Value] = {
            "host": "localhost",
            "user": ROLE,
            "password": "a secret",
            "pool_size": POOL,
        }
        pooler = launch(only(secure, trusting(pki, "verify-full", **servers)), {"workers": 2})
        Crowd(pooler).wait_for_workers(2)
        asyncio.run(outlive_a_worker(pooler, "app", POOL, sleep, busy))
        pooler.stop()
    finally:
        secure.sql(f"DROP ROLE {ROLE}")
