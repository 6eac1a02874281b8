"""auth_query at a PostgreSQL that insists on TLS: its connection is encrypted as every other is."""

from tests.conformance.logins import fails
from tests.integration.auth_query.conftest import PASSWORD, WRONG, make_role, who
from tests.integration.conftest import Launch
from tests.support.postgres import PostgresServer
from tests.support.secure_postgres import SCRAM_TLS
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only

pytestmark = howdah_only("PgBouncer says which names are unknown")


def test_the_question_is_asked_over_tls_and_tied_to_its_certificate(
    tls_postgres: PostgresServer, launch: Launch
) -> None:
    server = Server(tls_postgres, tls_postgres.new_database())
    tls_postgres.sql(f"GRANT SELECT ON pg_authid TO {SCRAM_TLS.name}", server.database)
    make_role(server, "encrypted")
    settings = {
        "auth_type": "scram-sha-256",
        "auth_user": SCRAM_TLS.name,
        "server_tls_sslmode": "require",
        "server_channel_binding": "require",
    }
    secrets = {SCRAM_TLS.name: SCRAM_TLS.password or ""}
    pooler = launch({APP: entry(server)}, settings, secrets=secrets)
    assert who(pooler, "encrypted") == "encrypted"
    assert WRONG in fails(pooler, "encrypted", f"not {PASSWORD}")
    (row,) = pooler.show("SERVERS", user=SCRAM_TLS.name)
    assert str(row["tls"]).startswith("TLSv1")
    server.close()
