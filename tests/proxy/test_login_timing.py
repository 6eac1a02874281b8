"""A login does not tell by its length whether there is such a user.

Measured is the processor time of our side, since time on the wall is the machine's; `python -m
tests.bench.timing` measures that, too.
"""

import asyncio
import gc
import statistics
import time

import pytest

from protocol.frontend import SASLInitialResponse, SASLResponse
from protocol.messages import Message
from protocol.scram import ScramClient, ScramKeys
from proxy.client import Client
from proxy.lobby import Lobby
from tests.bench.timing import BAR
from tests.support import messages as m
from tests.support.rig import Rig
from tests.support.scram import verifier
from tests.support.transport import ListTransport

LOGINS = 300


class Stopwatch:
    """Of processor time, stopped while it is somebody else's."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.spent += time.thread_time() - self._began


async def failing_login(lobby: Lobby, user: str) -> float:
    """The processor time of a SCRAM login with a wrong password, up to the refusal."""
    watch, scram, transport = Stopwatch(), ScramClient(), ListTransport()
    startup = m.startup({"user": user, "database": "app"})

    async def say(data: bytes) -> bytes:
        with watch:
            client.connection.data_received(data)
            for turn in range(5000):
                if answer := transport.take():
                    return answer
                # The first time a key is derived, in a thread.
                await asyncio.sleep(0 if turn < 50 else 0.001)
        raise AssertionError("no answer")

    def encoded(message: Message) -> bytes:
        return message.encode()

    with watch:
        client = Client(lobby)
        client.connection.connection_made(transport)
    await say(startup)
    challenge = await say(encoded(SASLInitialResponse(b"SCRAM-SHA-256", scram.first())))
    salt, iterations = scram.challenge(challenge[9:])
    refusal = await say(encoded(SASLResponse(scram.final(ScramKeys.of(b"wrong", salt, iterations)))))
    assert refusal[:1] == b"E"
    with watch:
        client.connection.connection_lost(None)
    return watch.spent


@pytest.mark.parametrize("secret", [verifier("sesame"), "sesame"], ids=["verifier", "plain"])
async def test_an_unknown_user_costs_what_a_known_one_does(secret: str) -> None:
    async with Rig(auth_type="scram-sha-256", credentials={"alice": secret}) as rig:
        lobby = rig.worker.lobby
        for user in ("alice", "stranger") * 20:
            await failing_login(lobby, user)
        known: list[float] = []
        unknown: list[float] = []
        gc.disable()
        try:
            for number in range(LOGINS):
                turns = [(known, "alice"), (unknown, "stranger")]
                for found, user in turns if number % 2 else turns[::-1]:
                    found.append(await failing_login(lobby, user))
        finally:
            gc.enable()
    # Pair by pair: the pace of the machine changes from one second to the next.
    apart = statistics.median(one - other for one, other in zip(known, unknown, strict=True))
    assert abs(apart) < BAR * statistics.median(unknown)


async def salt_of(user: str, secrets: dict[str, str]) -> bytes:
    """The salt that a freshly started pooler announces."""
    async with Rig(auth_type="scram-sha-256", credentials=secrets) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": user, "database": "app"}))
        await peer.password()
        scram = ScramClient()
        peer.send(SASLInitialResponse(b"SCRAM-SHA-256", scram.first()).encode())
        return scram.challenge((await peer.password()).body[4:])[0]


async def test_the_salt_of_an_unknown_user_is_the_same_after_a_restart() -> None:
    secrets = {"alice": "sesame", "bob": verifier("other")}
    assert await salt_of("stranger", secrets) == await salt_of("stranger", secrets)
    assert await salt_of("stranger", secrets) != await salt_of("visitor", secrets)
    assert await salt_of("stranger", secrets) != await salt_of("stranger", {"alice": "other"})
    assert await salt_of("alice", secrets) == await salt_of("alice", secrets)


@pytest.mark.parametrize("method", ["plain", "md5", "scram-sha-256"])
@pytest.mark.parametrize("secret", [verifier("sesame", iterations=777), "sesame"], ids=["verifier", "plain"])
async def test_an_unknown_user_is_asked_what_known_ones_usually_are(method: str, secret: str) -> None:
    """Also in clear text, where a verifier has a key derived from whatever was typed."""

    async def asked(rig: Rig, user: str) -> tuple[bytes, list[str]]:
        peer = await rig.connect()
        peer.send(m.startup({"user": user, "database": "app"}))
        request = (await peer.password()).body
        if request[:4] != m.int32(10):
            peer.send(m.password("wrong"))
            assert (await peer.error())["C"] == "28P01"
            return request[:4], []
        peer.send(m.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc"))
        challenge = (await peer.password()).body[4:].decode()
        return request, challenge.split(",")[2:]

    async with Rig(auth_type=method, credentials={"alice": secret}) as rig:
        derived = rig.worker.deriver._remembered
        known = await asked(rig, "alice"), len(derived)
        assert (await asked(rig, "stranger"), len(derived)) == (known[0], 2 * known[1])
