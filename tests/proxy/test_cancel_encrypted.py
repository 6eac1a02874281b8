"""Cancel requests to servers with TLS: as their connection, or not at all."""

import asyncio
import logging

import pytest

from config.types import SslMode
from proxy.pool import states
from proxy.server import Server
from tests.proxy.encrypted import only_if, secure, trusting
from tests.proxy.test_cancel import asleep, patient
from tests.support.certificates import Pki
from tests.support.rig import Rig, eventually


async def cancelled(rig: Rig, server: Server) -> None:
    server.cancel(rig.worker.clock())
    await asyncio.wait_for(server.cancel_done(), 5)


@pytest.mark.both_loops
@pytest.mark.parametrize(
    ("mode", "negotiation", "encrypted"),
    [
        ("disable", "postgres", False),
        ("allow", "postgres", False),
        ("prefer", "postgres", True),
        ("verify-full", "postgres", True),
        ("verify-full", "direct", True),
    ],
)
async def test_a_cancel_goes_the_way_of_the_connection_it_is_for(
    mode: str, negotiation: str, encrypted: bool, pki: Pki
) -> None:
    database = trusting(pki, mode, sslnegotiation=negotiation, host="localhost")
    async with Rig(patient, database=database) as rig:
        secure(rig, pki, pki.server("localhost"))
        server = await asleep(rig)
        asked = rig.fake.requests
        await cancelled(rig, server)
        (request,) = rig.fake.cancels
        assert (request.pid, request.secret) == (server.pid, server.secret)
        assert rig.fake.cancels_over_tls == encrypted
        assert rig.fake.requests - asked == (encrypted and negotiation == "postgres")
        await eventually(lambda: server.state == states.IDLE)


async def test_a_cancel_is_plain_where_prefer_had_to_go_on_in_the_clear(pki: Pki) -> None:
    async with Rig(only_if(encrypted=False), database=trusting(pki, "prefer")) as rig:
        secure(rig, pki)
        peer = await rig.client()
        await peer.ask("hello")
        (pool,) = rig.worker.manager.pools.values()
        (server,) = pool.servers[states.IDLE]
        assert isinstance(server, Server)
        await cancelled(rig, server)
        assert (len(rig.fake.cancels), rig.fake.cancels_over_tls) == (1, 0)


@pytest.mark.parametrize("answer", [b"N", b"E", b"S\0", b"?", b""])
async def test_a_key_that_was_given_over_tls_never_goes_in_the_clear(
    answer: bytes, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """As pgx sent it, and libpq before PostgreSQL 17."""
    caplog.set_level(logging.WARNING, "howdah")
    async with Rig(patient, database=trusting(pki, "prefer"), cancel_wait_timeout=0.2) as rig:
        secure(rig, pki)
        server = await asleep(rig)
        rig.fake.answer = answer
        await cancelled(rig, server)
        assert not rig.fake.cancels
        assert server.close_needed is None, "nothing was sent"
        assert "cancel" in caplog.text
        secure(rig, pki)
        await cancelled(rig, server)
        await eventually(lambda: server.state == states.IDLE)


async def test_a_cancel_checks_the_certificate_as_its_connection_did(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "howdah")
    async with Rig(patient, database=trusting(pki, "verify-full")) as rig:
        secure(rig, pki)
        server = await asleep(rig)
        secure(rig, pki, pki.server("elsewhere.example"))
        await cancelled(rig, server)
        assert not rig.fake.cancels
        assert "certificate is not valid for '127.0.0.1'" in caplog.text
        secure(rig, pki)
        await cancelled(rig, server)


async def test_a_cancel_keeps_to_the_settings_of_its_connection(pki: Pki) -> None:
    async with Rig(patient, database=trusting(pki, "require")) as rig:
        secure(rig, pki)
        server = await asleep(rig)
        entry = rig.settings.databases["app"].model_copy(update={"sslmode": SslMode.DISABLE})
        rig.worker.lobby.tls.apply(rig.settings.model_copy(update={"databases": {"app": entry}}))
        await cancelled(rig, server)
        assert (len(rig.fake.cancels), rig.fake.cancels_over_tls) == (1, 1)
