"""Where connections get their transports: from the pump where it is built and the loop is uvloop, from the
loop elsewhere.

Law: nobody but who makes a transport can tell whose it is. To protocols they are the same.
"""

import asyncio
import functools
import logging
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.version import is_pump_built

if TYPE_CHECKING:
    from proxy.pump import Pump, Wire

logger = logging.getLogger("howdah")

PAUSE: Final = 1.0
"""Nobody is accepted for so long after the system could not (s)."""
_pumps: Final[dict[asyncio.AbstractEventLoop, "Pump"]] = {}


class Doors(Protocol):
    """What accepts."""

    def close(self) -> None:
        """Accept no more, and close the listening socket."""
        ...


def pump_of(loop: asyncio.AbstractEventLoop) -> "Pump | None":
    """The pump of a loop, begun where there is none yet; None where transports are the loop's own."""
    found = _pumps.get(loop)
    if found is None and type(loop).__module__.partition(".")[0] == "uvloop" and is_pump_built():
        from proxy.pump import Pump

        for ended in [each for each in _pumps if each.is_closed()]:
            del _pumps[ended]
        found = _pumps[loop] = Pump(loop.call_soon, functools.partial(_report, loop))
        loop.add_reader(found.fileno(), found.turn)
    return found


async def connect(protocol: asyncio.Protocol, address: str, port: int) -> None:
    """Connect to an address, which is no name, by TCP. Raises OSError."""
    loop = asyncio.get_running_loop()
    pump = pump_of(loop)
    if pump is None:
        await loop.create_connection(lambda: protocol, address, port)
        return
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags)
    family, kind, number, _, target = found[0]
    sock = socket.socket(family, kind, number)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, target)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno:
            # The loop's own text is not that of its transports.
            raise OSError(error.errno, os.strerror(error.errno)) from None
        raise
    pump.adopt(sock, protocol)


async def connect_unix(protocol: asyncio.Protocol, path: str) -> None:
    """Connect to a unix socket. Raises OSError."""
    loop = asyncio.get_running_loop()
    pump = pump_of(loop)
    if pump is None:
        await loop.create_unix_connection(lambda: protocol, path)
        return
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # It is done or refused at once, also where the other side's queue is full.
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    pump.adopt(sock, protocol)


async def adopt(sock: socket.socket, protocol: asyncio.Protocol) -> None:
    """Take over a connected socket, whoever has connected it."""
    loop = asyncio.get_running_loop()
    pump = pump_of(loop)
    if pump is None:
        await loop.connect_accepted_socket(lambda: protocol, sock)
        return
    sock.setblocking(False)
    pump.adopt(sock, protocol)


def detach(transport: asyncio.Transport) -> socket.socket:
    """Take the socket out of an open transport with nothing unsent; its protocol hears no more of it."""
    if transport.is_closing() or transport.get_write_buffer_size():
        raise RuntimeError("only an open connection with nothing unsent can be given away")
    if hasattr(transport, "detach"):
        return cast("Wire", transport).detach()
    of_loop: socket.socket = transport.get_extra_info("socket")
    sock = socket.socket(of_loop.family, of_loop.type, of_loop.proto, fileno=os.dup(of_loop.fileno()))
    sock.setblocking(False)
    transport.pause_reading()
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return sock


async def serve(accepted: Callable[[], asyncio.Protocol], sock: socket.socket, backlog: int) -> Doors:
    """Accept from a socket, at most `backlog` in a turn of the loop; `accepted` makes their protocols."""
    loop = asyncio.get_running_loop()
    pump = pump_of(loop)
    if pump is not None:
        return _Doors(loop, pump, accepted, sock, backlog)
    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(accepted, sock=sock, backlog=backlog)
    return await loop.create_server(accepted, sock=sock, backlog=backlog)


class _Doors:
    """Accepts for a pump."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pump: "Pump",
        accepted: Callable[[], asyncio.Protocol],
        sock: socket.socket,
        backlog: int,
    ) -> None:
        self._loop = loop
        self._pump = pump
        self._accepted = accepted
        self._sock = sock
        self._backlog = backlog
        sock.setblocking(False)
        sock.listen(backlog)
        loop.add_reader(sock, self._accept)

    def _accept(self) -> None:
        try:
            self._pump.accept(self._sock.fileno(), self._accepted, self._backlog)
        except OSError as error:
            # Too many open files, most likely: it would be reported again and again, without an end.
            logger.error("accept() failed: %s", error.strerror)
            self._loop.remove_reader(self._sock)
            self._loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._sock.fileno() >= 0:
            self._loop.add_reader(self._sock, self._accept)

    def close(self) -> None:
        """Accept no more."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()


def _report(loop: asyncio.AbstractEventLoop, error: Exception, wire: object) -> None:
    loop.call_exception_handler({"message": "a protocol has failed", "exception": error, "transport": wire})
