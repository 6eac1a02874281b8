"""Certificates for the tests: a small authority, and what it and others sign.

Law: keys are made anew for each run and belong to whom the pooler runs as, readable by nobody else, because
libpq and PostgreSQL refuse a key that others may read.
"""

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.pooler import ordinary_user

Kind = Literal["ec", "rsa", "ed25519"]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512

DAY = timedelta(days=1)
GOOD = (-DAY, 365 * DAY)
EXPIRED = (-10 * DAY, -DAY)
NOT_YET = (DAY, 10 * DAY)
LOCAL = ("localhost", "127.0.0.1", "::1")
"""What a server on this machine is called."""


@dataclass(frozen=True)
class Files:
    """A certificate (with what is between it and its authority) and its key, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key; `chain` are the authorities between it and the root."""

    certificate: x509.Certificate
    key: Key
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in self._all())

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def write(self, folder: Path, name: str) -> Files:
        """NAME.crt and NAME.key; both are replaced at once where they exist, as a renewal does."""
        files = Files(folder / f"{name}.crt", folder / f"{name}.key")
        replace(files.certificate, self.pem)
        replace(files.key, self.key_pem, mode=0o600)
        return files

    def _all(self) -> tuple[x509.Certificate, ...]:
        return (self.certificate, *self.chain)


class Authority:
    """Signs certificates. `above` makes it an intermediate one."""

    def __init__(self, name: str = "Howdah test authority", *, above: "Authority | None" = None) -> None:
        key = new_key("ec")
        issuer: Pair | None = above.pair if above else None
        self.pair: Pair = _sign(_named(name), key, issuer, [x509.BasicConstraints(True, None)], GOOD)
        self._chain: tuple[x509.Certificate, ...] = (self.pair.certificate, *above._chain) if above else ()

    @property
    def pem(self) -> bytes:
        """What those who trust it put into their CA file."""
        return self.pair.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path, name: str = "ca") -> Path:
        return replace(folder / f"{name}.crt", self.pem)

    def server(
        self,
        *names: str,
        kind: Kind = "ec",
        valid: tuple[timedelta, timedelta] = GOOD,
        digest: Digest | None = None,
        common_name: str | None = None,
    ) -> Pair:
        """A server's certificate for these names and addresses (LOCAL if none are given).

        With a `common_name` and no names it has no subject alternative names, as old certificates.
        """
        subject = common_name or (names or LOCAL)[0]
        extensions: list[x509.ExtensionType] = [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])]
        if names or common_name is None:
            extensions.append(x509.SubjectAlternativeName([_general(each) for each in names or LOCAL]))
        made = _sign(_named(subject), new_key(kind), self.pair, extensions, valid, digest)
        return Pair(made.certificate, made.key, self._chain)

    def client(
        self, common_name: str, *, kind: Kind = "ec", valid: tuple[timedelta, timedelta] = GOOD
    ) -> Pair:
        """A client's certificate; its common name is who he says he is."""
        extensions = [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])]
        made = _sign(_named(common_name), new_key(kind), self.pair, extensions, valid)
        return Pair(made.certificate, made.key, self._chain)


def self_signed(*names: str, kind: Kind = "ec") -> Pair:
    """A server's certificate that nobody vouches for but itself."""
    extensions = [x509.SubjectAlternativeName([_general(each) for each in names or LOCAL])]
    return _sign(_named((names or LOCAL)[0]), new_key(kind), None, extensions, GOOD)


def common_name(der: bytes) -> str:
    """What the owner of a certificate calls himself."""
    (name,) = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def new_key(kind: Kind) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return (
        ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    )


@dataclass(frozen=True)
class Pki:
    """An authority and a folder for what it signs, which the pooler may look into."""

    folder: Path
    authority: Authority
    ca: Path

    def server(self, *names: str, kind: Kind = "ec") -> Files:
        """A certificate for these names, LOCAL if none are given; made once."""
        return self._once(
            "-".join(("server", kind, *names)), lambda: self.authority.server(*names, kind=kind)
        )

    def client(self, common_name: str) -> Files:
        """A client's certificate; made once."""
        return self._once(f"client-{common_name}", lambda: self.authority.client(common_name))

    def write(self, name: str, pair: Pair) -> Files:
        """Any other certificate."""
        return pair.write(self.folder, name)

    def _once(self, name: str, make: Callable[[], Pair]) -> Files:
        files = Files(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return files if files.key.exists() else make().write(self.folder, name)


@contextmanager
def new_pki() -> Iterator[Pki]:
    """An authority of its own for as long as the block lasts."""
    folder = Path(tempfile.mkdtemp(prefix="howdah-tls-"))
    folder.chmod(0o755)
    try:
        authority = Authority()
        yield Pki(folder, authority, authority.write(folder))
    finally:
        shutil.rmtree(folder)


def replace(path: Path, content: bytes, mode: int = 0o644) -> Path:
    """Write a file for the pooler; whoever reads it meanwhile sees the old one or the new one, whole."""
    new = path.with_name(path.name + ".new")
    new.touch(mode=mode)
    new.write_bytes(content)
    user = ordinary_user()
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(new, entry.pw_uid, entry.pw_gid)
    new.replace(path)
    return path


def _sign(
    subject: x509.Name,
    key: Key,
    issuer: Pair | None,
    extensions: Sequence[x509.ExtensionType],
    valid: tuple[timedelta, timedelta],
    digest: Digest | None = None,
) -> Pair:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    signer = issuer.key if issuer else key
    algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else digest or hashes.SHA256()
    return Pair(builder.sign(signer, algorithm), key)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
