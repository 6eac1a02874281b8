"""Opening servers: dial, log in, run connect_query; and telling a failure of the host from a refusal.

A host that cannot be reached, or is not ready, is probed again soon while clients wait. A login that
PostgreSQL refuses on principle is not repeated before server_login_retry, and waiting clients get
PostgreSQL's own words.
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from config.tls import ServerTls
from config.types import SslNegotiation
from protocol import sqlstate, tags
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.login import Greeting, LoginImpossible, ServerRefused
from protocol.looks import SERVER_LOGIN_CAPS
from protocol.startup import encode_startup
from proxy import errors, transports
from proxy.audit import Leaks
from proxy.connection import Connection, ConnectionLost
from proxy.credentials import credential_of, credential_refused, credential_taken
from proxy.derive import Deriver
from proxy.encryption import (
    HOW,
    Encryption,
    TlsRefused,
    Way,
    another_way_may_do,
    encrypt,
    failure_of,
    more_telling,
    ways,
)
from proxy.names import to_wire
from proxy.pool.interfaces import Host
from proxy.pool.parameters import NOTHING_APPLIED, Applied
from proxy.pool.units import SECOND
from proxy.proof import login_at
from proxy.quarantine import Violation
from proxy.reasons import ClientClosed, ServerClosed
from proxy.resolver import Resolver
from proxy.server import Server
from proxy.sockets import tune
from proxy.tls import TlsError
from proxy.tls_servers import ServerContexts

if TYPE_CHECKING:
    from proxy.pool.backoff import Random
    from proxy.pool.pool import Pool

logger = logging.getLogger("howdah")

NOT_READY: Final = frozenset((sqlstate.CANNOT_CONNECT_NOW, sqlstate.CRASH_SHUTDOWN, sqlstate.ADMIN_SHUTDOWN))
"""SQLSTATEs of a refused login that mean that the host is not ready for anybody."""
NO_ROOM: Final = frozenset(
    (sqlstate.TOO_MANY_CONNECTIONS, sqlstate.INSUFFICIENT_RESOURCES, sqlstate.OUT_OF_MEMORY)
)
"""Those that mean that there is no room for one more connection of this user or database, for now."""
NO_ROOM_WAIT: Final = SECOND // 2

LIFETIME_JITTER: Final = 0.05
"""Share of server_lifetime by which a server may end earlier, for not all of one age are to end together."""

CancelSender = Callable[[Server, int], None]


class Network(Protocol):
    """What a server asks of the world around it."""

    violations: Counter[Violation]
    """How often servers broke the protocol, by kind."""
    leaks: Leaks
    """What sessions have left behind on servers."""

    def clock(self) -> int:
        """The time (ns)."""
        ...

    def send_cancel(self, server: Server, generation: int) -> None:
        """Send a cancel request for what the server does; it hears `cancel_over`."""
        ...

    def count_server_closed(self, reason: ServerClosed) -> None:
        """Count a closed server connection."""
        ...

    def gone(self) -> None:
        """A server is gone: whoever waits for that may look."""
        ...


class Dialler:
    """Opens servers, and is the `Network` of those it opened."""

    def __init__(
        self,
        clock: Callable[[], int],
        random: "Random",
        resolver: Resolver,
        deriver: Deriver,
        gone: Callable[[], None],
        numbers: Iterator[int],
    ) -> None:
        self.clock = clock
        self.gone = gone
        self.closed_servers: Counter[ServerClosed] = Counter()
        self.violations: Counter[Violation] = Counter()
        self.leaks = Leaks()
        self.contexts: Callable[[ServerTls], ssl.SSLContext | None] = ServerContexts().get
        self.send_cancel: CancelSender = lambda server, generation: server.cancel_over(True, clock())
        self.on_connected: Callable[[Server], None] = lambda server: None
        self._random = random
        self._resolver = resolver
        self._deriver = deriver
        self._numbers = numbers

    def count_server_closed(self, reason: ServerClosed) -> None:
        """Count a closed server connection."""
        self.closed_servers[reason] += 1

    def dial(self, pool: "Pool", host: Host, boot: Applied) -> Server:
        """Begin to open a server for the pool."""
        server = Server(next(self._numbers), pool, host, boot, self)
        server.opening = asyncio.get_running_loop().create_task(self._open(server))
        server.opening.add_done_callback(lambda _: self._free_unopened(server))
        return server

    def _free_unopened(self, server: Server) -> None:
        """A server that was closed before its task had begun: nothing has been done that could be undone."""
        if server.opening is not None and server in server.pool.servers[server.state]:
            server.pool.hosts.backoff(server.host).abandoned()
            self._free(server)

    def _free(self, server: Server) -> None:
        server.closing = True
        server.pool.gone(server, self.clock())
        self.gone()

    def wake(self, pool: "Pool", at: int) -> None:
        """Call `pool.demand` at this time (ns)."""
        delay = max(at - self.clock(), 0) / SECOND
        # Timers count milliseconds on some loops and fire up to one early.
        asyncio.get_running_loop().call_later(delay, lambda: pool.demand(max(self.clock(), at)))

    async def connect(self, connection: Connection, host: Host) -> tuple[str, int]:
        """Connect to the first address of a host that answers. Raises OSError."""
        if host.local:
            path = f"{host.name}/.s.PGSQL.{host.port}"
            await transports.connect_unix(connection, "\0" + path[1:] if path.startswith("@") else path)
            return "unix", host.port
        failure: OSError = OSError(f"no address for {host.name}")
        for address in await self._resolver.resolve(host.name):
            try:
                await transports.connect(connection, address, host.port)
            except OSError as error:
                failure = error
                continue
            return address, host.port
        raise failure

    async def connect_again(self, connection: Connection, server: Server) -> None:
        """Connect to the very address a server is connected to, for only that one knows its key; encrypted
        in the same way if that is, for whoever reads the key may cancel, too.
        """
        address, port = server.address
        host = server.host if address == "unix" else Host(address, port)
        await self.connect(connection, host)
        if server.encryption is not None:
            await encrypt(connection, server.encryption, Way.TLS)

    async def _open(self, server: Server) -> None:
        """Open a server to the end, good or bad."""
        pool = server.pool
        settings = pool.common
        backoff = pool.hosts.backoff(server.host)
        try:
            async with asyncio.timeout(settings.server_connect_timeout or None):
                greeting = await self._log_in_somehow(server)
                await self._run_connect_query(server)
        except ServerRefused as refused:
            self._on_refusal(server, refused)
        except (TlsError, TlsRefused) as error:
            self._on_distrust(server, error)
        except (ProtocolError, LoginImpossible, errors.PoolerError) as error:
            backoff.succeeded()
            self._refuse(server, errors.ServerRefused(str(error), getattr(error, "sqlstate", None)))
        except TimeoutError:
            # Nobody answers there: no end of file is going to come either.
            server.connection.abort()
            self._on_unreachable(server, "connect timeout")
        except (OSError, ConnectionLost) as error:
            broken = failure_of(server.connection)
            if broken is not None:
                self._on_distrust(server, broken)
            else:
                self._on_unreachable(server, f"connect failed ({_describe(error, server)})")
        except asyncio.CancelledError:
            backoff.abandoned()
            await self._finish_failed(server)
            raise
        except Exception:
            logger.exception("%sinternal error while connecting", server.prefix)
            self._on_unreachable(server, "internal error")
        else:
            backoff.succeeded()
            self._opened(server, greeting)
            return
        await self._finish_failed(server)

    def _on_unreachable(self, server: Server, reason: str) -> None:
        server.pool.hosts.backoff(server.host).failed(self.clock(), reason)
        logger.warning("%sclosing because: %s", server.prefix, reason)

    def _on_distrust(self, server: Server, error: TlsError | TlsRefused) -> None:
        """There is no TLS that will do: asking again at once would not help, another host might."""
        pool = server.pool
        reason = str(error) if isinstance(error, TlsRefused) else f"TLS handshake error: {error}"
        logger.warning("%sclosing because: %s", server.prefix, reason)
        pool.hosts.backoff(server.host).succeeded()
        now = self.clock()
        until = now + int(pool.common.server_login_retry * SECOND)
        if not pool.hosts.distrust(server.host, pool.settings, until, now):
            pool.refuse_logins(errors.ServerRefused(reason), until)

    async def _log_in_somehow(self, server: Server) -> Greeting:
        """Connect and log in, encrypted or not: as libpq goes about its sslmode."""
        first, *others = (Way.PLAIN,) if server.host.local else ways(server.pool.settings.tls)
        try:
            return await self._log_in(server, first)
        except (ServerRefused, TlsError, ConnectionLost) as error:
            passing = isinstance(error, ServerRefused) and error.error.sqlstate in NOT_READY | NO_ROOM
            if not others or passing or not another_way_may_do(server.connection, first, error):
                raise
            failure = error
        why = _describe(failure, server)
        logger.warning("%slogin failed, trying it %s: %s", server.prefix, HOW[others[0]], why)
        await self._begin_anew(server)
        try:
            return await self._log_in(server, others[0])
        except (ServerRefused, TlsRefused, TlsError) as error:
            logger.warning("%slogin failed again: %s", server.prefix, error)
            raise more_telling(failure, error) from None

    async def _begin_anew(self, server: Server) -> None:
        """Leave a connection, and wait for PostgreSQL to leave it too, for until then it counts."""
        connection = server.connection
        connection.receiver = _ignore
        connection.end()
        await connection.until_lost()
        server.connection = Connection(server)

    async def _log_in(self, server: Server, way: Way) -> Greeting:
        settings = server.pool.settings
        connection = server.connection
        server.encryption = None
        server.address = await self.connect(connection, server.host)
        self.on_connected(server)
        tune(connection.socket(), server.pool.common)
        context = None if way is Way.PLAIN else self.contexts(settings.tls)
        if context is not None:
            direct = settings.tls.negotiation is SslNegotiation.DIRECT
            encryption = Encryption(context, server.host.name, direct)
            await encrypt(connection, encryption, way)
            if connection.tls is not None:
                server.encryption = encryption
                logger.info("%sSSL established: %s", server.prefix, connection.tls.text)
        elif way is Way.TLS:
            raise TlsRefused
        return await self._login(server)

    async def _login(self, server: Server) -> Greeting:
        pool = server.pool
        connection = server.connection
        user = to_wire(pool.key.user)
        parameters = {b"user": user, b"database": to_wire(pool.settings.dbname)}
        parameters |= {
            name.encode(): value.encode() for name, value in pool.settings.startup_parameters.items()
        }
        parameters |= dict(server.boot)
        version = tags.PROTOCOL_3_2 if pool.common.server_protocol == "3.2" else tags.PROTOCOL_3_0
        connection.write(encode_startup(parameters, version))
        conversation = login_at(connection, pool.settings, user, credential_of(pool), version)
        return await connection.converse(conversation, Collector(SERVER_LOGIN_CAPS), self._deriver.derive)

    async def _run_connect_query(self, server: Server) -> None:
        """PgBouncer's connect_query: a failure is logged and otherwise ignored."""
        server.status = tags.STATUS_IDLE
        query = server.pool.settings.connect_query
        if not query:
            return
        done: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def finished(_: Server, error: bytes | None, now: int) -> None:
            done.set_result(error)

        server.ask(query.encode(), finished, self.clock())
        lost = asyncio.ensure_future(server.connection.until_lost())
        await asyncio.wait((done, lost), return_when=asyncio.FIRST_COMPLETED)
        lost.cancel()
        if not done.done():
            raise ConnectionLost
        if done.result() is not None:
            logger.warning("%sconnect_query failed", server.prefix)

    def _opened(self, server: Server, greeting: Greeting) -> None:
        pool = server.pool
        now = self.clock()
        server.opening = None
        server.pid = greeting.pid
        server.secret = greeting.secret
        server.connected_at = now
        credential_taken(pool)
        lifetime = pool.settings.server_lifetime * (1 - LIFETIME_JITTER * self._random.random())
        server.expires_at = now + int(lifetime * SECOND)
        for name, value in greeting.parameters.items():
            at = pool.tracked.index(name)
            if at >= 0 and server.values[at] is None:
                server.values = pool.tracked.with_value(server.values, at, value)
        untracked = tuple((name, value) for name, value in server.boot if pool.tracked.index(name) < 0)
        server.applied = pool.tracked.intern_applied(untracked)
        if server.boot == NOTHING_APPLIED:
            pool.greeting = self._greeting(server, greeting.parameters)
        server.become_idle()
        address, port = server.connection.local() if not server.connection.closed else ("", 0)
        logger.info("%snew connection to server (from %s:%d)", server.prefix, address, port)
        if server.connection.closed:
            server.lost()
            return
        pool.opened(server, now)

    @staticmethod
    def _greeting(server: Server, parameters: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """What clients of the pool are told at login: the greeting, with what connect_query has changed."""
        current = zip(server.pool.tracked.names, server.values, strict=True)
        return parameters | {name: value for name, value in current if value is not None}

    def _on_refusal(self, server: Server, refused: ServerRefused) -> None:
        """PostgreSQL sent an error instead of a greeting."""
        backoff = server.pool.hosts.backoff(server.host)
        code = refused.error.sqlstate
        text = refused.error.message
        logger.warning("%sserver login failed: %s %s", server.prefix, refused.error.severity, text)
        if code in NOT_READY:
            backoff.failed(self.clock(), text)
            return
        backoff.succeeded()
        if code in NO_ROOM:
            server.pool.hold_off(self.clock() + NO_ROOM_WAIT)
            return
        self._refuse(server, errors.ServerRefused(text, code, refused.raw))

    def _refuse(self, server: Server, error: errors.ServerRefused) -> None:
        pool = server.pool
        if server.boot:
            # Somebody's own start-up parameters are at fault, not the pool's login.
            for session in [one for one in pool.waiting if one.boot == server.boot]:
                pool.leave(session)
                session.refused(error, ClientClosed.SERVER_REFUSED)
            return
        if not credential_refused(pool, error.sqlstate):
            pool.refuse_logins(error, self.clock() + int(pool.common.server_login_retry * SECOND))

    async def _finish_failed(self, server: Server) -> None:
        """Wait for PostgreSQL to close what could not be opened, for until then it counts."""
        self.count_server_closed(server.close_reason or ServerClosed.LOGIN_FAILED)
        connection = server.connection
        connection.receiver = _ignore
        try:
            async with asyncio.timeout(server.pool.common.server_close_timeout or None):
                if connection.end():
                    await connection.until_lost()
        except TimeoutError:
            logger.warning("%sserver_close_timeout: giving up waiting for the server to close", server.prefix)
        finally:
            self._free(server)
            connection.abort()


def _ignore(data: bytes, now: int) -> None:
    """What comes on a connection that is being left."""


def _describe(error: BaseException, server: Server) -> str:
    if isinstance(error, ConnectionLost):
        # The alert that says so may have been lost on the way.
        doubted = server.encryption is not None and server.encryption.shows_certificate
        doubt = ", maybe because of our certificate" if doubted else ""
        return f"server closed the connection during login{doubt}"
    return str(error) or type(error).__name__
