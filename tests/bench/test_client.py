import base64
import hashlib
import hmac
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.bench.client import Client, ServerError, verifier

READY = b"Z\0\0\0\x05I"
Read = Callable[[int], bytes]
PASSWORD, SALT, NONCE = "secret", b"0123456789abcdef", "ServerPart"


def message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!i", len(body) + 4) + body


class FakeServer:
    """Accepts one client and plays PostgreSQL for as long as its script goes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[bytes] = []
        self.replies: list[bytes] = []
        self.scram = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(5)
        self._listener.close()

    def connect(self) -> Client:
        return Client("127.0.0.1", self.port, "alice", "app", PASSWORD)

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            startup = stream.read(int.from_bytes(stream.read(4), "big") - 4)
            self.received.append(startup)
            if self.scram and not self._check_proof(connection, stream.read):
                connection.sendall(message(b"E", b"C28P01\0Mwrong password\0\0"))
                return
            connection.sendall(message(b"R", struct.pack("!i", 0)) + message(b"S", b"a\0b\0") + READY)
            for reply in self.replies:
                while (tag := stream.read(1)) not in b"QcX":
                    self._body(tag, stream.read)
                self._body(tag, stream.read)
                connection.sendall(reply)

    def _body(self, tag: bytes, read: Read) -> bytes:
        body = read(int.from_bytes(read(4), "big") - 4)
        self.received.append(tag + body)
        return body

    def _check_proof(self, connection: socket.socket, read: Read) -> bool:
        connection.sendall(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        first = self._body(read(1), read)
        bare = first[first.index(b"n,,") + 3 :].decode()
        nonce = bare.split("r=")[1] + NONCE
        challenge = f"r={nonce},s={base64.b64encode(SALT).decode()},i=4096"
        connection.sendall(message(b"R", struct.pack("!i", 11) + challenge.encode()))
        unproven, proof = self._body(read(1), read).decode().rsplit(",p=", 1)
        stored = base64.b64decode(verifier(PASSWORD, SALT).split("$")[2].split(":")[0])
        signature = hmac.digest(stored, f"{bare},{challenge},{unproven}".encode(), "sha256")
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        connection.sendall(message(b"R", struct.pack("!i", 12) + b"v=unchecked"))
        return hashlib.sha256(key).digest() == stored


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.join()


def test_a_verifier_holds_the_keys_of_the_example_in_rfc_7677() -> None:
    salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
    kind, middle, keys = verifier("pencil", base64.b64decode(salt)).split("$")
    stored, server = (base64.b64decode(key) for key in keys.split(":"))
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    said = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s={salt},i=4096,c=biws,r={nonce}".encode()
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    key = bytes(a ^ b for a, b in zip(proof, hmac.digest(stored, said, "sha256"), strict=True))
    assert (kind, middle) == ("SCRAM-SHA-256", f"4096:{salt}")
    assert hashlib.sha256(key).digest() == stored
    assert (
        base64.b64encode(hmac.digest(server, said, "sha256"))
        == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    )


def test_a_trusted_client_is_in_without_a_password(server: FakeServer) -> None:
    server.start()
    server.connect().close()
    assert server.received[0] == struct.pack("!i", 196608) + b"user\0alice\0database\0app\0\0"


def test_a_scram_server_accepts_the_proof(server: FakeServer) -> None:
    server.scram = True
    server.start()
    server.connect().close()


def test_the_first_error_of_a_query_is_raised_at_its_end(server: FakeServer) -> None:
    server.replies = [
        message(b"E", b"SERROR\0C42601\0Mno such thing\0\0") + READY,
        message(b"C", b"x\0") + READY,
    ]
    server.start()
    with server.connect() as client:
        with pytest.raises(ServerError, match="42601 no such thing"):
            client.query("select")
        client.query("select 1")


def test_a_drained_reply_is_counted_to_its_last_byte(server: FakeServer) -> None:
    reply = message(b"H", b"\0\0\0") + message(b"d", b"x" * 200_000) + message(b"C", b"COPY 1\0") + READY
    server.replies = [reply]
    server.start()
    with server.connect() as client:
        assert client.drain("copy t to stdout") == len(reply)


def test_a_drained_error_is_raised(server: FakeServer) -> None:
    server.replies = [message(b"E", b"C42P01\0Mno table\0\0") + READY]
    server.start()
    with server.connect() as client, pytest.raises(ServerError, match="no table"):
        client.drain("copy t to stdout")


def test_copy_in_sends_every_block_as_one_message(server: FakeServer) -> None:
    server.replies = [message(b"G", b"\0\0\0"), message(b"C", b"COPY 2\0") + READY]
    server.start()
    with server.connect() as client:
        client.copy_in("copy t from stdin", [b"1\n", b"2\n"])
    assert server.received[1:5] == [b"Qcopy t from stdin\0", b"d1\n", b"d2\n", b"c"]


def test_a_closed_connection_is_an_error_and_not_an_empty_reply(server: FakeServer) -> None:
    server.start()
    client = server.connect()
    with pytest.raises(ConnectionError):
        client.query("select 1")
    client.close()
