"""How the pooler itself logs in to PostgreSQL, and where it takes the secret from."""

import pytest

from proxy.demo.postgres import Role
from tests.integration.conftest import Launch
from tests.support import postgres
from tests.support.server import Server
from tests.support.standard import APP, entry, howdah_only
from tests.support.wire import LoginRefused


@pytest.mark.parametrize("role", [postgres.APP, postgres.APP_MD5, postgres.APP_TRUST])
def test_the_pooler_logs_in_by_the_method_the_server_asks_for(
    launch: Launch, server: Server, role: Role
) -> None:
    """The password of the entry serves SCRAM and MD5."""
    credentials = {"password": role.password} if role.password else {}
    pooler = launch({APP: entry(server, user=role.name, **credentials)})
    with pooler.raw(APP) as client:
        assert client.value("select session_user") == role.name


@howdah_only("PgBouncer sends passwords in clear text to whoever asks")
def test_a_password_in_clear_text_goes_over_the_unix_socket_where_it_is_allowed(
    launch: Launch, server: Server
) -> None:
    role = postgres.APP_PLAIN
    directory = str(server.postgres.socket_directory)
    own = entry(server, user=role.name, password=role.password or "")
    local = {**own, "host": directory}
    entries = {
        APP: {**local, "require_auth": "password"},
        "unlisted": local,
        "unencrypted": {**own, "require_auth": "password"},
    }
    pooler = launch(entries)
    with pooler.raw(APP) as client:
        assert client.value("select session_user") == role.name
    with pytest.raises(LoginRefused, match="a clear-text password, which is not allowed"):
        pooler.raw("unlisted")
    with pytest.raises(LoginRefused, match="a clear-text password over an unencrypted connection"):
        pooler.raw("unencrypted")


def test_the_pooler_logs_in_with_the_password_of_the_auth_file(launch: Launch, server: Server) -> None:
    role = postgres.APP
    pooler = launch({APP: entry(server)}, {"auth_type": "md5"}, secrets={role.name: role.password or ""})
    with pooler.connect(APP, role.name, password=role.password or "") as connection:
        assert connection.execute("select session_user").fetchone() == (role.name,)


def test_keys_learnt_from_the_clients_own_login_serve_the_server(launch: Launch, server: Server) -> None:
    """The auth_file holds the very verifier PostgreSQL has, and no password is known anywhere."""
    role = postgres.APP
    stored = str(server.value("select rolpassword from pg_authid where rolname = %s", [role.name]))
    pooler = launch({APP: entry(server)}, {"auth_type": "scram-sha-256"}, secrets={role.name: stored})
    for _ in range(3):
        with pooler.connect(APP, role.name, password=role.password or "") as connection:
            assert connection.execute("select session_user").fetchone() == (role.name,)
        pooler.admin("RECONNECT")
