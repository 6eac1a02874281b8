"""One client: its startup packet, its login, its welcome; then its session has its bytes.

Laws of this file:
- Everything up to the welcome is one coroutine that begins with the first bytes and ends before the first
  query; an idle client has no task.
- Before the first valid startup packet nothing is said to a client that talks nonsense; after it, one FATAL.
- `finish` is the one way out that we choose, `lost` the one that we are told of; both end in `_leave`, once.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from protocol import sqlstate, tags
from protocol.backend import READY, NegotiateProtocolVersion
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.login import LoginFailed, LoginResult
from protocol.looks import LOGIN_CAPS
from protocol.report import NoticeResponse
from protocol.startup import CancelRequest
from protocol.wire import message
from proxy.auth import authenticate, is_our_own_user
from proxy.cancel import LONG, SHORT
from proxy.connection import NOWHERE, UNIX, Connection, ConnectionLost, unheard
from proxy.credentials import learn_credential
from proxy.eager import Eager
from proxy.entry import agree_on_version, first_packet
from proxy.errors import (
    LoginRefused,
    PoolerError,
    ShuttingDown,
    TimedOut,
    TooManyClients,
    error_response,
)
from proxy.log import Prefix, printable
from proxy.names import ADMIN_DATABASES, from_wire, to_wire
from proxy.pool.units import SECOND
from proxy.reasons import ClientClosed
from proxy.session import Session
from proxy.sockets import resize
from proxy.tls import TlsError
from proxy.turnstile import Gate
from proxy.visit import Visit
from proxy.welcome import encoded
from proxy.wishes import Wishes, read_wishes

if TYPE_CHECKING:
    from proxy.lobby import ConsoleSession, Lobby
    from proxy.pool.database import Database, User
    from proxy.pool.pool import Pool

logger = logging.getLogger("howdah")

WAITING_NOTICE: Final = "No server connection available in postgres backend, client being queued"
# A client that does not take its last message is not waited for longer than this (s).
_LINGER: Final = 5.0
_NOBODY: Final = Prefix("C", 0, None, None, "")


class Client:
    """Of one connection from the listener. Times are nanoseconds. `method`: how it has to prove who it is."""

    __slots__ = (
        "_admitted",
        "_login",
        "cancel_pid",
        "connected_at",
        "connection",
        "console",
        "database",
        "finished",
        "id",
        "is_cancel",
        "is_special",
        "lobby",
        "method",
        "peer",
        "prefix",
        "session",
        "user",
        "version",
        "waits_for_server",
        "wishes",
    )

    def __init__(self, lobby: "Lobby") -> None:
        self.lobby = lobby
        self.id = lobby.next_id()
        self.connection = Connection(self)
        self.connected_at = lobby.clock()
        self.session: Session | None = None
        self.console: ConsoleSession | None = None
        self.database: Database | None = None
        self.user: User | None = None
        self.wishes: Wishes | None = None
        self.version: int = tags.PROTOCOL_3_0
        self.cancel_pid = 0
        self.finished = False
        self.is_cancel = self.is_special = False
        self.peer: tuple[str, int] = UNIX
        self.prefix = _NOBODY
        self._admitted = False
        self.waits_for_server = False
        self.method = ""
        self._login: Eager | None = None

    def behind_gate(self) -> Gate:
        """What a transport of the listener delivers to: the connection, as there is time for logins."""
        gate = self.connection.gate = Gate(self.lobby.turnstile, self.connection)
        return gate

    # What its connection tells it.

    def connected(self) -> None:
        """The listener has accepted it."""
        self.peer = self.connection.peer()
        self.prefix = Prefix("C", self.id, None, None, self.address)
        self.lobby.enter(self)
        if self.lobby.settings.tcp_socket_buffer and (sock := self.connection.socket()) is not None:
            resize(sock, self.lobby.settings)
        self.connection.receiver = self._first_bytes
        if timeout := self.lobby.settings.client_login_timeout:
            self.lobby.patience.begin(self, self.connected_at + int(timeout * SECOND))

    def writing_paused(self) -> None:
        """It takes what it is sent too slowly."""
        if self.session is not None:
            self.session.client_full()
        elif self.console is not None:
            self.console.pause_writing()

    def writing_resumed(self) -> None:
        """It has taken most of what it was sent."""
        if self.session is not None:
            self.session.client_drained()
        elif self.console is not None:
            self.console.resume_writing()

    def failed(self, error: Exception) -> None:
        """What it sent cannot be understood, or we failed over it."""
        if isinstance(error, ProtocolError):
            self.finish(error, ClientClosed.PROTOCOL)
        else:
            self.finish(PoolerError("internal error", sqlstate.INTERNAL_ERROR), ClientClosed.INTERNAL)

    def lost(self) -> None:
        """The connection is closed."""
        self._leave(ClientClosed.CLIENT_LOST)
        if self._login is not None:
            self._login.cancel()
        # It is over: what refers to us need not be referred to.
        self.session = self.console = self.connection.tls = None

    # The end.

    @property
    def address(self) -> str:
        """Where it is, for people."""
        return f"{self.peer[0]}:{self.peer[1]}" if self.peer[1] else self.peer[0]

    def finish(
        self, error: PoolerError | ProtocolError | None, reason: ClientClosed, text: str | None = None
    ) -> None:
        """Tell the client, if there is anything to tell and it can be told between two messages; close.

        The log has `text`, or what the client was told, or the reason.
        """
        if self.finished or self.connection.closed:
            return
        self.finished = True
        if error is not None:
            self.lobby.count_error(self, error)
            if self.session is None or not self.session.is_past_telling():
                self.connection.write(error_response(error))
        self._leave(reason, text if error is None else str(error))
        self._close()

    def _close(self) -> None:
        connection = self.connection
        connection.receiver = unheard
        if connection.unsent():
            asyncio.get_running_loop().call_later(_LINGER, connection.abort)
        connection.close()

    def _leave(self, reason: ClientClosed, text: str | None = None) -> None:
        """Give back all that it holds."""
        if not self.lobby.leave(self, reason, text or str(reason)):
            return
        if self._login is not None:
            # It must not go on with a login that nobody would undo.
            self._login.cancel()
        self.lobby.patience.end(self)
        if self.cancel_pid:
            self.lobby.cancel_keys.remove(self.cancel_pid)
        if self.session is not None:
            self.session.pool.sessions.pop(self.session, None)
            self.session.close(self.lobby.clock())
        if self.console is not None:
            self.console.lost()
        if self._admitted and self.database is not None and self.user is not None:
            self.lobby.dismiss(self.database, self.user)

    def notify_waiting(self) -> None:
        """It waits for a server (query_wait_notify)."""
        self.connection.write(NoticeResponse.make("NOTICE", "00000", WAITING_NOTICE).encode())

    def cancel_requested(self) -> "asyncio.Future[None] | None":
        """A cancel request with its key came; ready when it has been dealt with."""
        if self.console is not None:
            self.console.cancel()
        session = self.session
        if session is not None:
            session.cancel(self.lobby.clock())
        return session.server.cancel_done() if session is not None and session.server is not None else None

    # Logging in.

    def _first_bytes(self, data: bytes, now: int) -> None:
        self.connection.receiver = self.connection.keep
        self.connection.keep(data, now)
        self._login = self.connection.eager = Eager(self._run_login())
        self._login.start()

    async def in_task(self) -> None:
        """Go on with the login in a task, which what it is about to wait for needs."""
        if self._login is not None:
            await self._login.in_task()

    def login_takes_too_long(self) -> None:
        """It was waited for until client_login_timeout."""
        down = " (server down)" if self.waits_for_server else ""
        self.finish(TimedOut(f"client_login_timeout{down}"), ClientClosed.TIMEOUT)

    async def _run_login(self) -> None:
        try:
            await self._log_in()
        except Exception as error:
            self._login_failed(error)
        finally:
            self._login = self.connection.eager = None
            self.lobby.patience.end(self)

    def _login_failed(self, error: Exception) -> None:
        match error:
            case LoginFailed():
                self.lobby.count_login_failure(self)
                self._refuse(LoginRefused(error.message, error.sqlstate))
            case PoolerError():
                self._refuse(error)
            case ProtocolError():
                self.finish(error, ClientClosed.PROTOCOL)
            case TlsError():
                self.finish(None, ClientClosed.TLS, f"{ClientClosed.TLS}: {error}")
            case _ if not isinstance(error, ConnectionLost):
                logger.error("%sinternal error during login", self.prefix, exc_info=error)
                self.failed(error)

    def _refuse(self, error: PoolerError) -> None:
        if self.wishes is not None:
            logger.info("%slogin failed: %s: %s", self.prefix, self.wishes, printable(error.message))
        self.finish(error, ClientClosed.LOGIN_FAILED)

    async def _log_in(self) -> None:
        collector = Collector(LOGIN_CAPS)
        local = self.peer == UNIX
        context = None if local else self.lobby.tls.for_clients()
        packet = await first_packet(self.connection, collector, self.prefix, context)
        if packet is None:
            self.finish(None, ClientClosed.PROTOCOL)
            return
        if isinstance(packet, CancelRequest):
            await self._forward_cancel(packet)
            return
        if self.peer == NOWHERE:
            # Rules could not be applied to it, and it hears nothing.
            self.finish(None, ClientClosed.CLIENT_LOST)
            return
        self.connection.collect(collector)
        self.version = agree_on_version(packet)
        if not local and self.connection.tls is None and self.lobby.settings.client_tls_sslmode.required:
            raise PoolerError("SSL required", sqlstate.INVALID_AUTHORIZATION)
        wishes = self.wishes = read_wishes(packet, self.lobby.settings, self.lobby.manager.tracked)
        self.prefix.database, self.prefix.user = to_wire(wishes.database), to_wire(wishes.user)
        if self.version != packet.version or wishes.extensions:
            self.connection.write(NegotiateProtocolVersion(self.version, list(wishes.extensions)).encode())
        if not (console := wishes.database in ADMIN_DATABASES):
            self._check_room()
        result = await authenticate(self, wishes, collector)
        if self.finished:
            # What we told it could not be sent, and nobody ends a login from within.
            return
        self.lobby.logins[(self.method or "peer") + "-plus" * result.bound] += 1
        if self.lobby.settings.log_connections:
            tls = self.connection.tls.text if self.connection.tls is not None else "no"
            logger.info("%slogin attempt: %s tls=%s replication=no", self.prefix, wishes, tls)
        if console:
            self._open_console(wishes, result, collector)
        else:
            await self._open_session(wishes, result, collector)

    async def _forward_cancel(self, request: CancelRequest) -> None:
        """Pass a cancel request on; whatever comes of it, the client sees the end and no more."""
        self.is_cancel = True
        await self.in_task()
        self.connection.receiver = unheard
        self.lobby.set_apart(self)
        self.lobby.cancel_requests += 1
        if not await self.lobby.cancel(request.pid, request.secret):
            logger.info("%sfailed cancel request", self.prefix)
        self.finish(None, ClientClosed.CANCEL)

    def _check_room(self) -> None:
        lobby = self.lobby
        if lobby.shutting_down:
            raise ShuttingDown("pooler is shutting down")
        if lobby.ordinary_clients() + lobby.others > lobby.settings.max_client_conn:
            raise TooManyClients("no more connections allowed (max_client_conn)")

    # The two kinds of welcome.

    def _open_console(self, wishes: Wishes, result: LoginResult, collector: Collector) -> None:
        own = result.secret is None and is_our_own_user(self.connection, wishes)
        self.console, greeting = self.lobby.open_console(self, wishes.user, own)
        self.lobby.set_apart(self)
        self._welcome(result, encoded(greeting))
        console = self.console
        self.connection.receiver = lambda data, now: console.receive(data)
        if rest := collector.rest():
            console.receive(rest)
        self.connection.resume_reading()
        self.connection.open_gate()

    async def _open_session(self, wishes: Wishes, result: LoginResult, collector: Collector) -> None:
        lobby = self.lobby
        database, user = await lobby.admit(wishes)
        self.database, self.user, self._admitted = database, user, True
        pool = lobby.manager.pool(database, wishes.user)
        learn_credential(pool, result)
        if lobby.settings.application_name_add_host:
            wishes = wishes.with_host(self.address)
        await self._learn(pool, wishes)
        welcome = lobby.welcomes.find(pool, wishes.tracked)
        session = Session(
            self,
            self.connection,
            pool,
            lobby.frontend_caps,
            welcome.values,
            pool.tracked.intern_applied(wishes.applied),
            wishes.boot(),
            wishes.user,
        )
        session.idle_since = lobby.clock()
        self.session = session
        pool.sessions[session] = session
        pool.stats.client_login_count += 1
        self._welcome(result, welcome.data)
        self.connection.receiver = session.from_client
        self.connection.resume_reading()
        if rest := collector.rest():
            self.connection.data_received(rest)
        self.connection.open_gate()

    async def _learn(self, pool: "Pool", wishes: Wishes) -> None:
        """Have a server looked at, if it must be, for the greeting and for the settings asked for."""
        known = all(pool.accepted.form(name, value) is not None for name, value in wishes.settings())
        while pool.greeting is None or not known:
            self.waits_for_server = True
            await self.in_task()
            await Visit(self.id, pool, wishes.user).make(wishes, self.lobby.clock())
            known = True
        self.waits_for_server = False

    def _welcome(self, result: LoginResult, welcome: bytes) -> None:
        long_key = self.version >= tags.PROTOCOL_3_2
        self.cancel_pid, secret = self.lobby.cancel_keys.add(self, LONG if long_key else SHORT)
        # As BackendKeyData is laid out; messages are not compiled.
        key = message(tags.BACKEND_KEY_DATA, self.cancel_pid.to_bytes(4, "big") + secret)
        self.connection.write(b"".join((result.reply, welcome, key, READY)))

    @property
    def in_login(self) -> bool:
        """Whether it has not been welcomed yet."""
        return self.session is None and self.console is None

    @property
    def waits_for_login(self) -> bool:
        """Whether its login waits for a server."""
        return self.waits_for_server and self.session is None

    @property
    def application_name(self) -> str:
        """What the session calls itself at the moment."""
        session = self.session
        if session is None:
            return ""
        at = session.pool.tracked.index(b"application_name")
        return from_wire(session.values[at] or b"")
