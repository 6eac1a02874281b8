"""A server whose side of the handshake is spoilt at random: nothing is opened, kept or logged as ours."""

import asyncio
import random
import ssl

import pytest

from proxy.pool import states
from proxy.reasons import ServerClosed
from tests.proxy.dialling import dial, pool_of
from tests.proxy.encrypted import trusting
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.rig import Rig, eventually
from tests.support.terminator import server_context

AT_ONCE = 20


class Spoiler:
    """Does the server's side of TLS, and spoils what it sends until a login would begin."""

    def __init__(self, context: ssl.SSLContext, seed: int) -> None:
        self._context = context
        self._random = random.Random(seed)
        self.done: list[str] = []

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(8)
            writer.write(b"S")
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        spoilt = False
        while data := await reader.read(65536):
            incoming.write(data)
            try:
                tls.do_handshake()
                if tls.read(65536):
                    tls.write(m.authentication(0) + m.backend_key_data(1, b"1234") + m.ready_for_query())
            except ssl.SSLWantReadError:
                pass
            said = outgoing.read()
            writer.write(said if spoilt else self._spoil(said))
            spoilt = True

    def _spoil(self, data: bytes) -> bytes:
        how = self._random.choice(("flip", "cut", "twice", "insert", "swap", "garbage", "endless"))
        self.done.append(how)
        at = self._random.randrange(len(data))
        match how:
            case "flip":
                return data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]
            case "cut":
                return data[:at]
            case "twice":
                return data + data
            case "insert":
                return data[:at] + self._random.randbytes(10) + data[at:]
            case "swap":
                return data[at:] + data[:at]
            case "garbage":
                return self._random.randbytes(5000)
        return b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(200_000)


@pytest.mark.both_loops
@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
async def test_a_spoilt_handshake_opens_nothing(mode: str, pki: Pki) -> None:
    spoiler = Spoiler(server_context(pki.server()), seed=4711)
    listener = await asyncio.start_server(spoiler.take, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    database = trusting(pki, mode, host="127.0.0.1", port=port, pool_size=AT_ONCE)
    async with Rig(
        database=database, server_connect_timeout=0.5, server_login_retry=0, server_close_timeout=0.5
    ) as rig:
        pool = pool_of(rig)
        opened = 0
        for _ in range(4):
            for _ in range(AT_ONCE):
                pool.refused_until = 0
                pool.hosts.backoff(pool.hosts.of(pool.settings)[0]).succeeded()
                dial(rig, pool)
            await eventually(lambda: not pool.servers[states.LOGIN])
            for server in list(pool.servers[states.IDLE]):
                opened += 1
                server.close(ServerClosed.KILLED)
            await eventually(lambda: not pool.open)
        assert rig.worker.manager.ledger.of_pool(pool.key) == 0
        assert opened <= 4, "more than the bits that OpenSSL does not look at"
    listener.close()
    assert len(set(spoiler.done)) == 7
