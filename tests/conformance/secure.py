"""Clients over TLS, and targets that let nobody in without.

Law: a certificate is made anew by the command openssl; nobody checks who signed it.
"""

import shutil
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.demo.binaries import NoPostgres, find
from tests.conformance import direct
from tests.support import messages as m
from tests.support.pooler import PgBouncer, Pooler
from tests.support.postgres import METHODS, started
from tests.support.server import Server
from tests.support.target import Target
from tests.support.wire import Raw

HBA = tuple(f"hostssl all {role} all {method}" for role, method in METHODS.items())

_MAKE = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"


class SecureRaw(Raw):
    """A raw client that can go over to TLS."""

    def encrypt(self) -> None:
        """Asks for TLS, and does the handshake."""
        self.send(m.ssl_request())
        assert self.offered(), self.message()
        self.shake_hands()

    def offered(self) -> bool:
        """Takes the S of a server that is ready for the handshake, and nothing else."""
        first = self.take(1)
        if first != b"S":
            self._buffer[:0] = first
        return first == b"S"

    def shake_hands(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._socket = context.wrap_socket(self._socket)

    def _readable(self, seconds: float) -> bool:
        decrypted = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        return decrypted or super()._readable(seconds)


class OverTls(Target):
    """Every client comes encrypted, unless a test takes a `bare` connection."""

    def bare(self) -> SecureRaw:
        return SecureRaw(self.host, self.port)

    def socket(self, timeout: float = 10.0) -> Raw:
        raw = SecureRaw(self.host, self.port, timeout)
        raw.encrypt()
        return raw

    def conninfo(self, database: str | None = None, user: str | None = None, **more: str | int) -> str:
        return super().conninfo(database, user, **{"sslmode": "require", **more})


class SecurePooler(OverTls, Pooler):
    """Howdah behind TLS."""


class SecurePgBouncer(OverTls, PgBouncer):
    """PgBouncer behind TLS."""


class SecureDirect(OverTls, direct.Direct):
    """PostgreSQL behind TLS."""


Secure = SecurePooler | SecurePgBouncer | SecureDirect

POOLERS: Mapping[str, type[SecurePooler | SecurePgBouncer]] = {
    "howdah": SecurePooler,
    "pgbouncer": SecurePgBouncer,
}


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key, which everybody may read."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl, the command")
    chain, key = folder / "crt.pem", folder / "key.pem"
    command = [openssl, *_MAKE.split(), "-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    folder.chmod(0o755)
    key.chmod(0o644)
    return chain, key


@contextmanager
def secure_server(files: tuple[Path, Path]) -> Iterator[Server]:
    """A PostgreSQL with TLS, and logins by nothing else."""
    try:
        binaries = find(origin="system")
    except NoPostgres:
        pytest.skip("no system PostgreSQL here")
    with started(binaries, hba=HBA, tls=files) as postgres:
        server = Server(postgres, postgres.new_database())
        yield server
        server.close()
