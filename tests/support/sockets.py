"""Raw sockets on the far side of a transport, and a protocol that notes what it is told."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from tests.support.rig import PATIENCE, eventually


class Noted(asyncio.Protocol):
    """`told` has what the transport has called besides data_received. `on_data` runs in data_received;
    `stays` keeps the connection open at its end of file; `replaced` is for a test to set.
    """

    def __init__(self, *, stays: bool = False) -> None:
        self.told: list[str] = []
        self.got = bytearray()
        self.error: Exception | None = None
        self.on_data: Callable[[bytes], object] = lambda data: None
        self.on_resume: Callable[[], object] = lambda: None
        self.transport: asyncio.Transport
        self.replaced = False
        self._stays = stays

    @property
    def lost(self) -> bool:
        return "lost" in self.told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=64 * 1024, low=16 * 1024)

    def data_received(self, data: bytes) -> None:
        assert not self.lost
        self.got += data
        self.on_data(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self._stays

    def pause_writing(self) -> None:
        self.told.append("paused")

    def resume_writing(self) -> None:
        self.told.append("resumed")
        self.on_resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.error = exc

    async def until(self, *told: str) -> None:
        """Wait until it was told all this and no more."""
        await eventually(lambda: self.told == list(told), f"not {told}")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one connection, non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    for sock in (ours, theirs):
        sock.setblocking(False)
    return ours, theirs


async def receive(sock: socket.socket, size: int) -> bytes:
    """So many bytes from the far side."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    async with asyncio.timeout(PATIENCE):
        while len(got) < size:
            data = await loop.sock_recv(sock, size - len(got))
            assert data, "the connection has ended"
            got += data
    return bytes(got)


async def rest(sock: socket.socket) -> bytes:
    """All that comes until the end of file."""
    loop = asyncio.get_running_loop()
    got = bytearray()
    async with asyncio.timeout(PATIENCE):
        while data := await loop.sock_recv(sock, 1 << 20):
            got += data
    return bytes(got)


def reset(sock: socket.socket) -> None:
    """Close so that the other side is told of a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
