"""What a server answers to the request for TLS, and what becomes of it under each sslmode."""

import asyncio
import logging
import ssl
from collections.abc import Callable

import pytest

from config.databases import DatabaseSettings
from config.settings import Settings
from config.tls import server_tls
from proxy.encryption import Way, ways
from proxy.pool import states
from proxy.server import Server
from tests.proxy.dialling import dial, gone, opened, pool_of
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation, Script
from tests.support.terminator import server_context

WEAK = ("disable", "allow", "prefer")
STRONG = ("require", "verify-ca", "verify-full")


def secure(rig: Rig, pki: Pki, *names: str) -> None:
    """Let the fake server do TLS, with a certificate for these names."""
    rig.fake.answer = b"S"
    rig.fake.context = server_context(pki.server(*names), client_ca=pki.ca)


def trusting(pki: Pki, mode: str, **more: object) -> dict[str, object]:
    return {"sslmode": mode, "sslrootcert": str(pki.ca), **more}


def refuse_unless(encrypted: bool, code: str = "28000") -> Script:
    """A pg_hba.conf that knows one kind of connection."""

    def script(conversation: Conversation) -> None:
        if (conversation.tls is not None) is encrypted:
            conversation.welcome()
            conversation.serve()
        else:
            conversation.refuse(code, f"no pg_hba.conf entry ({conversation.tls})")

    return script


async def refused(rig: Rig) -> m.Fields:
    """What a client is told for whom no server can be opened."""
    peer = await rig.client()
    peer.send(m.query("select 1"))
    return await peer.error()


@pytest.mark.parametrize(
    ("mode", "negotiation", "expected"),
    [
        ("disable", "postgres", (Way.PLAIN,)),
        ("allow", "postgres", (Way.PLAIN, Way.TLS)),
        ("prefer", "postgres", (Way.ASK, Way.PLAIN)),
        *((mode, "postgres", (Way.TLS,)) for mode in STRONG),
        *((mode, "direct", (Way.TLS,)) for mode in STRONG),
        # The settings refuse these; where SET on the console has made them, nothing goes out in the clear.
        ("prefer", "direct", (Way.TLS,)),
        ("allow", "direct", (Way.TLS,)),
        ("disable", "direct", (Way.PLAIN,)),
    ],
)
def test_the_order_of_ways_is_libpqs(mode: str, negotiation: str, expected: tuple[Way, ...]) -> None:
    settings = Settings(server_tls_sslmode=mode, server_tls_sslnegotiation=negotiation)  # type: ignore[arg-type]
    assert ways(server_tls(settings, DatabaseSettings())) == expected


@pytest.mark.both_loops
@pytest.mark.parametrize("mode", [*WEAK, *STRONG])
async def test_a_server_with_tls_is_reached_in_every_mode(mode: str, pki: Pki) -> None:
    async with Rig(database=trusting(pki, mode)) as rig:
        secure(rig, pki)
        server = await opened(rig, pool_of(rig))
        encrypted = mode not in ("disable", "allow")
        assert (server.connection.tls is not None) is encrypted
        assert [bool(each.tls) for each in rig.fake.conversations] == [encrypted]
        peer = await rig.client()
        assert [each.tag for each in await peer.ask("select 1")] == [b"T", b"D", b"C", b"Z"]
