"""Servers that move from one worker to another, with all that is known of them.

Laws of this file: only a server in the clear of which nothing is open, unsent or unread leaves its worker,
and nobody there knows it afterwards. Who takes it in treats it as one just released; where its settings are
not those of the pool any more, it is closed.
"""

import array
import asyncio
import fcntl
import hashlib
import logging
import os
import socket
import termios
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from config.effective import PoolSettings
from protocol import tags
from proxy import transports
from proxy.dialler import Dialler, Network
from proxy.frames import Frames, close_all, encode
from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.pool.leases import Carrier, RemoteLeases
from proxy.pool.leasing import (
    Arrival,
    Below,
    Claim,
    Connected,
    Forget,
    FromLedger,
    FromWorker,
    Grant,
    Returned,
    Take,
    Yielded,
)
from proxy.pool.manager import destination
from proxy.pool.parameters import Applied, Values
from proxy.pool.units import SECOND
from proxy.reasons import ServerClosed
from proxy.server import Server

if TYPE_CHECKING:
    from proxy.member import Member
    from proxy.pool.interfaces import PooledServer
    from proxy.pool.pool import Pool

logger = logging.getLogger("howdah")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that is prepared on the server. `fresh`: no change of the schema is known since."""

    name: bytes
    text: bytes
    values: Values
    applied: Applied
    parameters: bytes | None
    shape: bytes | None
    fresh: bool
    used: int


@dataclass(frozen=True, slots=True)
class Cargo:
    """What its new worker has to know. Times are those of the clock that all processes have in common (ns).

    `destination` stands for the settings it was opened with, `greeting` is what clients of its pool are told,
    `doomed` are names of statements that are to be closed.
    """

    destination: bytes
    host: Host
    address: tuple[str, int]
    boot: Applied
    values: Values
    applied: Applied
    pid: int
    secret: bytes
    connected_at: int
    released_at: int
    expires_at: int
    used: bool
    greeting: dict[bytes, bytes] | None
    prepared: tuple[Prepared, ...]
    doomed: tuple[bytes, ...]


class Mover:
    """Of one worker. `numbers` are the ids of its servers, `network` is what they have around them."""

    def __init__(self, network: Network, numbers: Iterator[int]) -> None:
        self._network = network
        self._numbers = numbers

    def carrier(self) -> Carrier:
        """How servers leave this worker and come to it."""
        return Carrier(self.ship, self.unload, os.close)

    # Leaving.

    def ship(self, server: "PooledServer") -> tuple[bytes, int] | None:
        """Take an idle server apart; None where it has to stay."""
        assert isinstance(server, Server)
        if not _may_leave(server, self._network.clock()):
            return None
        cargo = encode(_cargo(server))
        try:
            sock = server.connection.detach()
        except (RuntimeError, OSError):
            return None
        server.closing = True
        logger.debug("%sgoes to another worker", server.prefix)
        return cargo, sock.detach()

    # Coming.

    def unload(self, pool: "Pool", data: bytes, descriptor: int) -> None:
        """Make a server of what another worker has taken apart. Where that cannot be done, the connection is
        closed and its lease given back.
        """
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            close_all([descriptor])
            self._refuse(pool, 0, error)
            return
        inode = os.fstat(descriptor).st_ino
        try:
            server = self._unpack(pool, data)
        except Exception as error:
            sock.close()
            self._refuse(pool, inode, error)
            return
        server.inode = inode
        pool.servers[states.LOGIN][server] = None
        pool.open += 1
        server.opening = asyncio.get_running_loop().create_task(self._adopt(server, sock))
        server.opening.add_done_callback(lambda _: self._free_unopened(server, sock))

    def _unpack(self, pool: "Pool", data: bytes) -> Server:
        ((cargo, _),) = Frames().feed(data, [], cut=False)
        if not isinstance(cargo, Cargo):
            raise TypeError(f"{type(cargo).__name__} instead of a cargo")
        server = Server(next(self._numbers), pool, cargo.host, cargo.boot, self._network)
        _restore(server, cargo, self._network.clock())
        outdated = cargo.destination != fingerprint(pool.settings)
        if outdated or pool.database.dead or cargo.connected_at < pool.database.renewed_at:
            server.close_needed = ServerClosed.RECONNECT
        return server

    def _refuse(self, pool: "Pool", inode: int, error: Exception) -> None:
        # The text of an error may show what the cargo was made of: a secret, too.
        logger.warning("a server from another worker cannot be used: %s", type(error).__name__)
        pool.leases.give_back(pool.key, inode)
        if pool.waiting:
            pool.demand(self._network.clock())

    async def _adopt(self, server: Server, sock: socket.socket) -> None:
        try:
            await transports.adopt(sock, server.connection)
        except OSError as error:
            logger.warning("%sclosing because: could not be taken over (%s)", server.prefix, error)
            return
        now = self._network.clock()
        server.opening = None
        server.become_idle()
        logger.debug("%scame from another worker", server.prefix)
        if server.connection.closed:
            server.lost()
            return
        server.pool.take_in(server, now)

    def _free_unopened(self, server: Server, sock: socket.socket) -> None:
        """It was told to close before it was taken over, or could not be."""
        if server.opening is None:
            return
        server.closing = True
        server.connection.abort()
        sock.close()
        server.pool.gone(server, self._network.clock())
        self._network.gone()


def remote_leases(member: "Member", dialler: Dialler, numbers: Iterator[int]) -> RemoteLeases:
    """The leases of one of many workers, which the supervisor's ledger decides on."""

    def connected(server: Server) -> None:
        sock = server.connection.socket()
        if sock is None:
            return
        instead, server.inode = server.inode, os.fstat(sock.fileno()).st_ino
        try:
            member.link.send(Connected(server.pool.key, instead), (sock.fileno(),))
        except OSError as error:
            logger.debug("%sunknown to the supervisor: %s", server.prefix, error)
            member.link.send(Connected(server.pool.key, instead))
        member.servers_changed()

    def send(message: FromWorker, descriptors: Sequence[int]) -> None:
        member.link.send(message, descriptors)
        if isinstance(message, Returned | Yielded):
            member.servers_changed()

    def later(delay: int, call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay / SECOND, call)

    def receive(message: FromLedger, descriptors: tuple[int, ...]) -> None:
        leases.receive(message, descriptors)
        if descriptors:
            member.servers_changed()

    leases = RemoteLeases(send, dialler.clock, later, Mover(dialler, numbers).carrier())
    dialler.on_connected = connected
    for kind in (Arrival, Below, Claim, Forget, Grant, Take):
        member.handlers[kind] = receive
    return leases


def fingerprint(settings: PoolSettings) -> bytes:
    """Stands for what a server connection is made with, in each process alike."""
    secret = settings.password.reveal() if settings.password is not None else b""
    return hashlib.sha256(repr((destination(settings), secret)).encode()).digest()


def _may_leave(server: Server, now: int) -> bool:
    """Whether nothing keeps the server: not TLS, no cancel, nothing asked, sent or read in part."""
    connection = server.connection
    kept = (
        server.closing
        or server.opening is not None
        or server.session is not None
        or server.close_needed is not None
        or server.cancels
        or server.listening
        or server.status != tags.STATUS_IDLE
        or server.expires_at <= now
        or server.suspect is not None
        or server.pool.common.audit_release
    )
    if kept or connection.closed or connection.tls is not None or server.unclean() is not None:
        return False
    if server.statements.pending or connection.transport.is_closing():
        return False
    sock = connection.socket()
    return sock is not None and not _unread(sock.fileno())


def _unread(descriptor: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def _cargo(server: Server) -> Cargo:
    pool = server.pool
    ddl = pool.database.ddl
    prepared = (
        Prepared(
            found.name,
            statement.text,
            statement.values,
            statement.key[3],
            statement.parameters,
            statement.shape,
            statement.shared and found.confirmed and not found.checking and statement.verified == ddl,
            found.used,
        )
        for statement, found in server.statements.prepared.items()
    )
    return Cargo(
        destination=fingerprint(pool.settings),
        host=server.host,
        address=server.address,
        boot=server.boot,
        values=server.values,
        applied=server.applied,
        pid=server.pid,
        secret=server.secret,
        connected_at=server.connected_at,
        released_at=server.released_at,
        expires_at=server.expires_at,
        used=server.used,
        greeting=pool.greeting,
        prepared=tuple(prepared),
        doomed=server.statements.doomed,
    )


def _restore(server: Server, cargo: Cargo, now: int) -> None:
    pool = server.pool
    tracked = pool.tracked
    server.address = cargo.address
    server.boot = tracked.intern_applied(cargo.boot)
    server.values = tracked.intern(cargo.values)
    server.applied = tracked.intern_applied(cargo.applied)
    server.pid, server.secret = cargo.pid, cargo.secret
    server.connected_at, server.released_at = cargo.connected_at, cargo.released_at
    server.expires_at, server.used = cargo.expires_at, cargo.used
    if pool.greeting is None:
        pool.greeting = cargo.greeting
    for name in cargo.doomed:
        pool.statements.seen(name)
        server.statements.arrived(name, None, now)
    for prepared in cargo.prepared:
        pool.statements.seen(prepared.name)
        _remember(server, prepared)


def _remember(server: Server, prepared: Prepared) -> None:
    """What is prepared is of use here if clients of this worker would mean the same by it."""
    pool = server.pool
    tracked = pool.tracked
    statement = None
    if prepared.fresh:
        values, applied = tracked.intern(prepared.values), tracked.intern_applied(prepared.applied)
        statement = pool.statements.find(pool.key, prepared.text, values, applied, pool.database.ddl)
    if statement is not None and statement.shape is None:
        statement.shape, statement.parameters = prepared.shape, prepared.parameters
    elif statement is not None and statement.shape != prepared.shape:
        statement = None
    server.statements.arrived(prepared.name, statement, prepared.used)
