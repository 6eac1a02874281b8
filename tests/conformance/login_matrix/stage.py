"""The servers and poolers of the matrix: a PostgreSQL with TLS and one without, a pooler per client method.

Law: each login of a client makes the pooler log in anew (`server_lifetime = 0`); the roles are named after
their cells, so that pg_hba.conf asks each as its cell says.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator

from proxy.demo.postgres import SUPERUSER, Role
from tests.conformance.login_matrix.rule import Cell, Client, Form, Server
from tests.support.certificates import Pki
from tests.support.pooler import PASSWORDS, Pooler, Sections, Value
from tests.support.postgres import HBA
from tests.support.scram import verifier

FRONT = "front"
"""The client's own name where the server's is forced."""
_ASKING = "asking"
_HBA = {Server.PLUS: "scram-sha-256"}


def role_name(form: Form, server: Server) -> str:
    return f"{form.value}_{server.value}".replace("-", "_")


def password_of(name: str) -> str:
    return f"pw of {name}"


def user_of(cell: Cell) -> str:
    """Who the client says it is."""
    return f"{FRONT}_{cell.server.value}" if cell.form is Form.FORCED else role_name(cell.form, cell.server)


def database_of(cell: Cell) -> str:
    forced = cell.form is Form.FORCED
    return f"forced_{cell.server.value}" if forced else cell.server.value


def roles() -> list[Role]:
    """One for each form and server method."""
    found = []
    for form in Form:
        for server in Server:
            name = role_name(form, server)
            found.append(
                Role(name, password_of(name), encryption="md5" if server is Server.MD5 else "scram-sha-256")
            )
    return found


def hba() -> list[str]:
    own = [
        f"host all {role_name(form, server)} all {_HBA.get(server, server.value)}"
        for form in Form
        for server in Server
    ]
    return [*own, *HBA]


def _stored(form: Form, name: str, stored: str) -> str:
    """As the auth file has it; `stored` is PostgreSQL's own."""
    password = password_of(name)
    if form is Form.PLAIN:
        return password
    if form is Form.MD5:
        return "md5" + hashlib.md5((password + name).encode()).hexdigest()
    return stored if stored.startswith("SCRAM") else verifier(password)


def secrets(stored: dict[str, str]) -> dict[str, str]:
    """The auth file: who is not in it is asked for."""
    found = {}
    for server in Server:
        for form in (Form.PLAIN, Form.MD5, Form.VERIFIER):
            name = role_name(form, server)
            found[name] = _stored(form, name, stored[name])
        front = f"{FRONT}_{server.value}"
        found[front] = password_of(front)
    return found


def entries(host: str, port: int, *, tls: bool) -> Sections:
    """The [databases] of a pooler."""
    common: dict[str, Value] = {
        "host": host,
        "port": port,
        "dbname": "postgres",
        "sslmode": "require" if tls else "disable",
    }
    found: dict[str, dict[str, Value]] = {_ASKING: dict(common)}
    for server in Server:
        entry = {**common, "channel_binding": "require" if server is Server.PLUS else "prefer"}
        name = role_name(Form.FORCED, server)
        found[server.value] = entry
        found[f"forced_{server.value}"] = {**entry, "user": name, "password": password_of(name)}
    return found


def settings(client: Client, pki: Pki, *, tls: bool) -> dict[str, Value]:
    """Of the pooler for this method of clients."""
    method = Client.SCRAM if client is Client.PLUS else client
    found: dict[str, Value] = {
        "auth_type": method.value,
        "auth_user": SUPERUSER,
        "auth_dbname": _ASKING,
        "server_lifetime": 0,
        "server_auth_methods": "scram-sha-256, md5, password, none",
        "verbose": 2,
    }
    if tls:
        files = pki.server("localhost", "127.0.0.1")
        found |= {
            "client_tls_sslmode": "verify-ca" if client is Client.CERT else "require",
            "client_tls_cert_file": os.fspath(files.certificate),
            "client_tls_key_file": os.fspath(files.key),
            "client_tls_ca_file": os.fspath(pki.ca),
        }
    return found


@contextlib.contextmanager
def pooler(
    client: Client, pki: Pki, host: str, port: int, stored: dict[str, str], *, tls: bool
) -> Iterator[Pooler]:
    """A pooler for these clients, before the server at `port`."""
    users = {name: secret for name, secret in PASSWORDS.items() if client is not Client.CERT}
    with Pooler(
        entries(host, port, tls=tls),
        settings(client, pki, tls=tls),
        secrets={SUPERUSER: "", **users, **secrets(stored)},
        user=FRONT,
    ) as found:
        yield found
