"""A client that vanishes behind any byte of any message it may send, in each way to vanish.

Law: what is cut short has not happened, and what is whole has happened once or not at all; nobody else
notices, and no server, client or descriptor is left.
"""

import os
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Final

import pytest

from tests.conformance.expect import ENDS, PROMPTLY, QUIET, heard
from tests.conformance.logins import PASSWORDS, PLAIN, SCRAM, SECRETS, Asking, scram_until_final
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER, stays_alive
from tests.support.certificates import Pki
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.scram import ScramClient
from tests.support.server import Server
from tests.support.standard import APP, databases, entry, howdah_only
from tests.support.wire import Raw

pytestmark = [howdah_only("half a request is forwarded by others"), pytest.mark.slow]

LONG: Final = 100
TOGETHER: Final = 50
"""Clients at a time."""
TABLE: Final = "cut_short"
INSERT: Final = f"insert into {TABLE} values (1)"

MESSAGES: Final = {
    "Query": (b"", m.query(INSERT)),
    "Parse": (b"", m.parse("by_name", INSERT, [25])),
    "Bind": (m.parse("", "select $1::text"), m.bind("p", "", ["value"])),
    "Describe": (m.parse("", "select 1"), m.describe(b"S")),
    "Execute": (m.parse("", INSERT) + m.bind("p"), m.execute("p")),
    "Close": (m.parse("named", "select 1") + m.bind("p", "named"), m.close(b"S", "named")),
    "Flush": (m.parse("", "select 1"), m.flush()),
    "Sync": (m.parse("", INSERT) + m.bind() + m.execute(), m.sync()),
    "FunctionCall": (b"", m.function_call(1258, [b"one", b"two"])),
    "CopyData": (m.query(f"copy {TABLE} from stdin"), m.copy_data(b"1\n")),
    "CopyDone": (m.query(f"copy {TABLE} from stdin") + m.copy_data(b"1\n"), m.copy_done()),
    "CopyFail": (m.query(f"copy {TABLE} from stdin") + m.copy_data(b"1\n"), m.copy_fail("no")),
    "Terminate": (m.query("begin; " + INSERT), m.terminate()),
}
"""What comes before, and what is cut short."""
COMMITS: Final = ("Query", "Sync", "CopyDone")
"""Those that, once they are whole, leave a row behind."""


def leave(client: Raw, how: str) -> None:
    match how:
        case "close":
            client.close()
        case "reset":
            client.reset()
        case "half-close":
            client.half_close()


def cuts(data: bytes) -> Iterator[tuple[bytes, str]]:
    """Everything that it may begin with, itself too, and how it ends there: by turns where it is long."""
    for at in range(len(data) + 1):
        for how in ENDS if len(data) < LONG else (ENDS[at % len(ENDS)],):
            yield data[:at], how


def suffer(pooler: Pooler, begin: Callable[[Raw], bytes], before: bytes = b"") -> None:
    """Some clients at a time begin, which tells what each is to say, say part of it and vanish.

    Who only says no more is hung up on.
    """
    with ExitStack() as stack:
        first = stack.enter_context(pooler.socket())
        said = list(cuts(begin(first)))
    for start in range(0, len(said), TOGETHER):
        batch = said[start : start + TOGETHER]
        with ExitStack() as stack:
            clients = [stack.enter_context(pooler.socket()) for _ in batch]
            for client, (part, how) in zip(clients, batch, strict=True):
                client.send(before + begin(client)[: len(part)])
                leave(client, how)
            for client, (_, how) in zip(clients, batch, strict=True):
                if how == "half-close":
                    assert hangs_up(client)
    wait_until(lambda: not pooler.show("CLIENTS", database=APP), PROMPTLY, "no client is left")


def hangs_up(client: Raw) -> bool:
    """Whether the connection ends soon, whatever else is heard of it."""
    heard(client)
    return True


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    return module_launch(databases(server), QUIET)


@pytest.fixture(scope="module")
def asking(server: Server, pki: Pki) -> Iterator[Pooler]:
    """Asks for passwords, of which it has some as SCRAM secrets, and lets clients encrypt."""
    files = pki.server("localhost")
    certificate, key = os.fspath(files.certificate), os.fspath(files.key)
    tls = {"client_tls_sslmode": "allow", "client_tls_cert_file": certificate, "client_tls_key_file": key}
    entries = {name: entry(server, user=server.user) for name in (APP, BYSTANDER)}
    secrets = {**SECRETS, server.user: ""}
    with Asking(entries, {**QUIET, **tls, "auth_type": "md5"}, None, secrets, user=SCRAM) as pooler:
        yield pooler


# --- after the login -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_half_a_message_does_nothing_however_its_client_vanishes(
    pooler: Pooler, server: Server, name: str
) -> None:
    server.sql(f"drop table if exists {TABLE}; create table {TABLE}(n int); grant all on {TABLE} to public")
    before, message = MESSAGES[name]

    def begin(client: Raw) -> bytes:
        client.login(pooler.user, APP)
        return message

    with stays_alive(pooler, server.busy_backends):
        suffer(pooler, begin, before)
    rows = server.value(f"select count(*) from {TABLE}")
    assert rows in (range(len(ENDS) + 1) if name in COMMITS else [0])


# --- in the login --------------------------------------------------------------------------------


def ask_for_tls(client: Raw) -> bytes:
    client.send(m.ssl_request())
    assert client.take(1) == b"S"
    return hello()


def hello() -> bytes:
    """What a handshake begins with."""
    said = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    return said.read()


def name_oneself(client: Raw, user: str) -> None:
    client.send(m.startup({"user": user, "database": APP}))


def be_asked_for_a_password(client: Raw) -> bytes:
    name_oneself(client, PLAIN)
    assert client.message().tag == b"R"
    return m.password("md5" + "0" * 32)


def be_asked_for_a_proof(client: Raw) -> bytes:
    name_oneself(client, SCRAM)
    assert client.message().tag == b"R"
    return m.sasl_initial("SCRAM-SHA-256", ScramClient("", nonce="0" * 24).first())


def prove(client: Raw) -> bytes:
    be_asked_for_a_proof(client)
    scram = ScramClient(PASSWORDS[SCRAM])
    return m.sasl_response(scram.final(scram_until_final(client, scram)))


LOGINS: Final[Mapping[str, Callable[[Raw], bytes]]] = {
    "SSLRequest": lambda client: m.ssl_request(),
    "GSSENCRequest": lambda client: m.gssenc_request(),
    "CancelRequest": lambda client: m.cancel_request(4711, b"none"),
    "ClientHello": ask_for_tls,
    "StartupMessage": lambda client: m.startup({"user": SCRAM, "database": APP}),
    "PasswordMessage": be_asked_for_a_password,
    "SASLInitialResponse": be_asked_for_a_proof,
    "SASLResponse": prove,
}
"""What a client does first, and says then."""


@pytest.mark.parametrize("name", LOGINS)
def test_half_a_login_leaves_nothing_however_its_client_vanishes(
    asking: Pooler, server: Server, name: str
) -> None:
    with stays_alive(asking, server.busy_backends):
        suffer(asking, LOGINS[name])
