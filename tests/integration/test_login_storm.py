"""Many logins at once, in the clear and by TLS: none is lost, and who is in goes on being served.

How long it takes, and how long a turn of the loop, `python -m tests.bench.storm` measures.
"""

import asyncio
import os

import pytest

from tests.bench.cluster import Address
from tests.bench.crowd import storm
from tests.integration.conftest import Launch
from tests.support import postgres, standard
from tests.support.certificates import Pki
from tests.support.scram import verifier
from tests.support.server import Server

LOGINS, WORKERS = 200, 10


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
def test_of_a_storm_of_logins_none_is_lost(launch: Launch, server: Server, pki: Pki, tls: bool) -> None:
    role = postgres.APP
    settings = {"auth_type": "scram-sha-256", "listen_backlog": 128}
    if tls:
        files = pki.server("localhost")
        settings |= {
            "client_tls_sslmode": "require",
            "client_tls_cert_file": os.fspath(files.certificate),
            "client_tls_key_file": os.fspath(files.key),
        }
    entries = {"app": standard.entry(server, user=role.name, password=role.password or "", pool_size=4)}
    pooler = launch(entries, settings, secrets={role.name: verifier(role.password or "")})
    address = Address(pooler.host, pooler.port, role.name, "app", role.password or "")
    crowd = asyncio.run(storm(address, clients=LOGINS, workers=WORKERS, tls=tls, quiet=0.2, patience=60))
    assert not crowd.lost
    assert len(crowd.logins) == LOGINS
    assert crowd.busy, "those who were in were not served"
