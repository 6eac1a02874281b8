"""Poolers that offer TLS, or demand it, with certificates of the tests' authority.

Law: what a test changes in files it changes in a folder of its own.
"""

import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Launch
from tests.support.certificates import Files, Pki
from tests.support.pooler import Pooler, Settings
from tests.support.server import Server
from tests.support.standard import databases


def shown(files: Files, mode: str = "allow", **more: str) -> Settings:
    """Settings of a pooler that shows this certificate."""
    own = {"client_tls_cert_file": str(files.certificate), "client_tls_key_file": str(files.key)}
    return {"client_tls_sslmode": mode, **own, **more}


def trusting(pki: Pki, **more: str) -> dict[str, str]:
    """What libpq is told to check everything."""
    return {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(pki.ca), **more}


def context(pki: Pki, *protocols: str) -> ssl.SSLContext:
    """For clients that are no libpq; `protocols` are offered by ALPN."""
    made = ssl.create_default_context(cafile=pki.ca)
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """For files that a test changes."""
    with tempfile.TemporaryDirectory(prefix="howdah-tls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, pki: Pki) -> Pooler:
    """Takes clients with TLS and without."""
    return module_launch(databases(server), shown(pki.server()))
