"""One server connection: dial, log in, run queries of ours, be cancelled, say goodbye.

Laws of this file:
- Bytes of a server that no session has are ours to judge: on an idle server only a notice, a notification or
  a ParameterStatus may come; anything else closes it.
- `close` is the one way out: Terminate, end of file, and the slot stays taken until PostgreSQL has closed
  too.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from protocol import tags
from protocol.backend import READY
from protocol.errors import ProtocolError, UnexpectedMessage
from protocol.framer import Collector, Framer
from protocol.frontend import Query, Terminate
from protocol.looks import BACKEND, BACKEND_LOOK_NAMES
from protocol.outstanding import Outstanding
from proxy.audit import PROBE, Suspect, Watch, excused, log_failure, log_leaks, read
from proxy.connection import Connection
from proxy.encryption import Encryption, failure_of
from proxy.errand import Done, Errand
from proxy.errors import Killed, PoolerError, ServerLost
from proxy.log import Prefix
from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.pool.parameters import CHANGED, NOTHING_APPLIED, Alignment, Applied, Values
from proxy.pool.parties import PooledServer
from proxy.pool.statements import ServerStatements
from proxy.quarantine import Violation, kind_of, last_messages
from proxy.reasons import ServerClosed, Unclean

if TYPE_CHECKING:
    from proxy.dialler import Network
    from proxy.pool.pool import Pool

logger = logging.getLogger("howdah")

_TERMINATE: Final = Terminate().encode()
EMPTY_QUERY: Final = "<empty>"
"""PgBouncer's spelling of the empty query in server_check_query."""
# Command tags of what may change how a statement is parsed or what its rows look like.
_ALTERING: Final = (b"CREATE", b"ALTER", b"DROP", b"IMPORT", b"DO\0")
# A cancelled query's rest is thrown away up to this many bytes before the server is closed instead.
DRAIN_MOST: Final = 1 << 20


class Server(PooledServer):
    """Times are nanoseconds. `status` is the transaction status, STATUS_BUSY from a write to its
    ReadyForQuery.

    `errored`: an ErrorResponse was passed on since the last ReadyForQuery, so the client has been told.
    `generation` changes whenever a session parts from the server; a cancel is for one generation only.
    """

    __slots__ = (
        "_aligning",
        "_alignment",
        "_cancel_again",
        "_cancel_waiters",
        "_drained",
        "_errand",
        "_network",
        "_row",
        "_unasked",
        "_watch",
        "address",
        "altered",
        "close_reason",
        "closing",
        "connection",
        "encryption",
        "errored",
        "framer",
        "generation",
        "host",
        "opening",
        "outstanding",
        "pid",
        "secret",
        "statements",
        "suspect",
    )

    def __init__(self, number: int, pool: "Pool", host: Host, boot: Applied, network: "Network") -> None:
        self.id = number
        self.pool = pool
        self.host = host
        self.boot = boot
        self._network = network
        self.address: tuple[str, int] = (host.name, host.port)
        self.state = states.LOGIN
        self.session = None
        self.connection = Connection(self)
        self.encryption: Encryption | None = None
        self.framer = Framer(BACKEND_LOOK_NAMES, BACKEND)
        self.outstanding = Outstanding()
        self.statements = ServerStatements()
        self.altered = False
        self.status = tags.STATUS_BUSY
        self.values = pool.tracked.unknown
        self.applied = NOTHING_APPLIED
        self.pid = self.inode = 0
        self.secret = b""
        self.listening = self.used = self.errored = False
        self.generation = 0
        self.connected_at = self.released_at = self.expires_at = 0
        self.close_needed = None
        self.close_reason: ServerClosed | None = None
        self.closing = False
        self.closing_since = 0
        self.cancels = 0
        self.opening: asyncio.Task[None] | None = None
        self.prefix = Prefix("S", number, pool.key.database, pool.key.user, f"{host.name}:{host.port}")
        self._cancel_again = False
        self._cancel_waiters: list[asyncio.Future[None]] = []
        self._errand: Errand | None = None
        self._alignment: Alignment | None = None
        self._row: bytes | None = None
        self._watch: Watch | None = None
        self.suspect: Suspect | None = None
        self._drained = 0
        # Made once: a method becomes an object each time it is named without being called.
        self._unasked, self._aligning = self._from_idle, self._from_aligning

    def __repr__(self) -> str:
        return f"<Server {self.id} {states.SERVER_STATES[self.state]} {self.outstanding!r}>"

    # What its session tells it.

    def reported(self, body: bytes, session_values: Values) -> Values:
        """A ParameterStatus came: remember it; return the session's values with it."""
        name, _, value = body[:-1].partition(b"\0")
        tracked = self.pool.tracked
        at = tracked.index(name)
        if at < 0:
            return session_values
        same = session_values is self.values
        self.values = tracked.with_value(self.values, at, value)
        return self.values if same else tracked.with_value(session_values, at, value)

    def noted(self, command: bytes) -> None:
        """A command tag came that may change what we know of the server."""
        if command.startswith(b"LISTEN"):
            self.listening = True
        elif command.startswith(b"DISCARD ALL"):
            self.listening = False
            self.applied = NOTHING_APPLIED
            self.statements.clear()
        elif command.startswith(b"DEALLOCATE ALL"):
            self.statements.clear()
        elif command.startswith(b"DISCARD PLANS"):
            # Texts would be read anew under the settings of whoever comes first.
            self.statements.retire_all()
        elif command.startswith(_ALTERING):
            self.pool.database.alter()
            self.altered = True
        elif self.applied and command.startswith((b"SET", b"RESET", b"DISCARD")):
            # One of them may have been changed: whoever comes next sets them all anew.
            self.applied = tuple((name, CHANGED) for name, _ in self.applied)

    def altered_for_good(self) -> None:
        """The transaction is over that changed a schema: others see it only from now on."""
        self.altered = False
        self.pool.database.alter()

    def become_idle(self) -> None:
        """The login is over: what comes now comes unasked."""
        self.status = tags.STATUS_IDLE
        self.connection.receiver = self._unasked

    def cleanup(self) -> str:
        """What has to be undone before another session may have the server."""
        return "UNLISTEN *" if self.listening else ""

    def parted(self) -> None:
        """Its session has parted from it; cancels for that session no longer apply."""
        if self.pool.careful and self.pool.common.audit_release and self.session is not None:
            self.suspect = Suspect(self.session.id, self.session.user, self._application())
        self.session = None
        self._cancel_again = False
        if self.statements.pending:
            self.statements.parted()
        if self.status != tags.STATUS_BUSY:
            # Of a query that goes on without its client, a cancel under way still means this very query.
            self.generation += 1
        if not self.closing:
            self.connection.receiver = self._unasked

    def unclean(self) -> Unclean | None:
        """Which proof is missing that the server may go to somebody else; None if all hold."""
        outstanding = self.outstanding
        framer = self.framer
        if self.status != tags.STATUS_IDLE:
            return Unclean.BUSY if self.status == tags.STATUS_BUSY else Unclean.IN_TRANSACTION
        if outstanding.queue or outstanding.skipping:
            return Unclean.OWED
        if outstanding.copying:
            return Unclean.COPY
        if not outstanding.settled or outstanding.mixed:
            return Unclean.UNSETTLED
        if framer.held or framer.rest:
            return Unclean.PARTIAL_REPLY
        return Unclean.UNSENT if self.connection.transport.get_write_buffer_size() else None

    def abandoned(self, partial: bool, now: int) -> None:
        """Its session left without it being free. `partial`: half a request has been sent."""
        if self.closing:
            return
        if not partial and self.unclean() is None:
            self.pool.release(self, now, None)
        elif not partial and self.status == tags.STATUS_BUSY and self.outstanding.ends_in_ready():
            self.released_at = now
            self._drained = 0
            self.connection.receiver = self._from_abandoned
            self.connection.resume_reading()
            self.pool.move(self, states.BEING_CANCELED)
            self.cancel(now)
        else:
            self.close(ServerClosed.ABANDONED)

    # Queries of ours.

    def check(self, query: str, now: int) -> None:
        """Run a query with no session; the pool hears of a good end, a bad one closes."""
        text = "" if query == EMPTY_QUERY else query
        if self.listening and not text.upper().startswith(("DISCARD ALL", "UNLISTEN")):
            text = f"{text};UNLISTEN *"
        undoes = query == self.pool.common.server_reset_query or "DISCARD" in text.upper()
        self.ask(text.encode(), Server._reset if undoes else Server._checked, now)

    def align(self, alignment: Alignment, now: int) -> None:
        """Give the server its session's parameters; then the session hears `aligned`."""
        self._alignment = alignment
        self.statements.unnamed = None
        self.released_at = now
        self.status = tags.STATUS_BUSY
        self.connection.receiver = self._aligning
        self.connection.write(alignment.message)

    def _from_aligning(self, data: bytes, now: int) -> None:
        """The beginning of the reply, nearly always all of it, and what was said the last time."""
        alignment = self._alignment
        assert alignment is not None
        if data == alignment.reply:
            self.status = tags.STATUS_IDLE
            self.values = alignment.values
            self.connection.receiver = self._unasked
            self._aligned(None, now)
            return
        errand = Errand(Server._aligned)
        self._errand = errand
        self.connection.receiver = self._from_asked
        self._from_asked(data, now)
        if errand.complete and errand.error is None and data.endswith(READY):
            alignment.learn(data, self.values)

    def ask(self, query: bytes, done: Done, now: int) -> None:
        """Run a query of ours, and tell `done` when it is answered. Its reply is ours, no session sees it."""
        self.run(Errand(done), Query(query).encode(), now)

    def run(self, errand: Errand, messages: bytes, now: int) -> None:
        """Begin an errand by these messages, which end in a Sync or are a Query."""
        self.statements.unnamed = None
        self._errand = errand
        self.released_at = now
        self.status = tags.STATUS_BUSY
        self.connection.receiver = self._from_asked
        self.connection.write(messages)

    def _from_asked(self, data: bytes, now: int) -> None:
        errand = self._errand
        assert errand is not None
        if not errand.feed(data, self._hear):
            return
        self.status = tags.STATUS_IDLE
        if trailing := errand.trailing():
            self._from_idle(trailing, now)
            if self.closing:
                return
        self._errand = None
        self._row = errand.row
        self.connection.receiver = self._unasked
        errand.done(self, errand.error, now)

    def _hear(self, body: bytes) -> None:
        """A ParameterStatus that no session is concerned with."""
        self.reported(body, self.values)

    def _checked(self, error: bytes | None, now: int) -> None:
        if error is not None:
            self.close(ServerClosed.CHECK_FAILED)
            return
        # Where LISTEN was seen, the query was one that undoes it.
        self.listening = False
        if self.pool.common.server_reset_query.upper().startswith("DISCARD ALL"):
            self.applied = tuple((name, CHANGED) for name, _ in self.applied)
        self.pool.tested(self, now)

    def _reset(self, error: bytes | None, now: int) -> None:
        """A query of ours is done that may have undone what was prepared."""
        self.statements.retire_all()
        self._checked(error, now)

    def _aligned(self, error: bytes | None, now: int) -> None:
        session = self.session
        assert session is not None
        session.aligned(self, error, now)

    def audit(self, now: int) -> bool:
        """Look for what its last session left behind, if that is wanted; first, for what a fresh one has.

        True: the pool hears of the server again when that is done.
        """
        known = self.used or self._watch is not None or not self.pool.common.audit_release
        if self.suspect is None and known:
            return False
        self.pool.move(self, states.TESTED)
        self.ask(PROBE, Server._audited, now)
        return True

    def _audited(self, error: bytes | None, now: int) -> None:
        suspect, self.suspect = self.suspect, None
        watch = self._watch = self._watch or Watch()
        state = read(self._row)
        if error is not None or state is None:
            log_failure(self.prefix, error)
        elif suspect is None:
            watch.learn(state)
        elif leaks := watch.compare(state, excused(self.pool.tracked, self.values, self.applied)):
            self._network.leaks.add(leaks, suspect.application)
            log_leaks(self.prefix, suspect, leaks)
        if self.used:
            self.pool.tested(self, now)
        else:
            self.pool.unused(self, now)

    def _application(self) -> bytes:
        """What the session calls itself."""
        return self.values[self.pool.tracked.index(b"application_name")] or b""

    # Nobody's bytes.

    def _from_idle(self, data: bytes, now: int) -> None:
        self.framer.buffer = data
        self.framer.lead = 0
        collector = Collector(BACKEND)
        collector.feed(data)
        while (message := collector.next()) is not None:
            tag, body = message
            if tag == tags.PARAMETER_STATUS:
                self._hear(body)
            elif tag == tags.ERROR_RESPONSE and self.is_fatal(body):
                self.close(ServerClosed.SERVER_SHUTDOWN, ServerLost())
                return
            elif tag not in (tags.NOTICE_RESPONSE, tags.NOTIFICATION_RESPONSE):
                raise UnexpectedMessage(f"server sent {chr(tag)!r} while it was idle")
        if collector.rest():
            raise UnexpectedMessage("server sent half a message while it was idle")

    def judge_trailing(self, data: bytes, now: int) -> None:
        """Bytes came behind the ReadyForQuery that ended its session's use of it."""
        chunk, self.framer = self.framer, Framer(BACKEND_LOOK_NAMES, BACKEND)
        try:
            self._from_idle(data, now)
        except ProtocolError as error:
            self._quarantine(error, Violation.TOO_MUCH, last_messages(chunk))

    def _from_abandoned(self, data: bytes, now: int) -> None:
        """The rest of what a session that left had asked for: accounted for, and thrown away."""
        for tag, start, stop in self.framer.feed(data):
            self._account(tag, self.framer.buffer[start + 5 : stop])
        if self.framer.fault is not None:
            raise self.framer.fault
        self._drained += len(data)
        if self.status == tags.STATUS_BUSY or self.outstanding.queue:
            if self._drained > DRAIN_MOST or self.outstanding.copying:
                self.close(ServerClosed.ABANDONED)
            return
        self.connection.receiver = self._unasked
        if not self.cancels:
            self._free_again(now)

    def _account(self, tag: int, body: bytes) -> None:
        """Account for one reply to a session that is gone."""
        outstanding = self.outstanding
        if tag == tags.ERROR_RESPONSE:
            if outstanding.queue:
                outstanding.error()
        elif tag == tags.PARAMETER_STATUS:
            self._hear(body)
        elif tag not in (tags.NOTICE_RESPONSE, tags.NOTIFICATION_RESPONSE):
            outstanding.reply(tag)
            if tag == tags.READY_FOR_QUERY:
                if body not in (b"I", b"T", b"E"):
                    raise UnexpectedMessage("server sent an unknown transaction status")
                self.status = body[0]
                if self.altered and self.status == tags.STATUS_IDLE:
                    self.altered_for_good()
            elif tag == tags.COMMAND_COMPLETE:
                self.noted(body)

    @staticmethod
    def is_fatal(fields: bytes) -> bool:
        """Whether the beginning of an ErrorResponse's body says that the connection ends."""
        return any(mark in fields for mark in (b"VFATAL\0", b"VPANIC\0", b"SFATAL\0", b"SPANIC\0"))

    # Cancelling.

    def cancel(self, now: int) -> None:
        """Have PostgreSQL cancel what the server is doing; while one request is under way, at most one
        more waits.
        """
        if self.cancels:
            self._cancel_again = True
            return
        self.cancels = 1
        self._network.send_cancel(self, self.generation)

    def cancel_over(self, sent_and_closed: bool, now: int) -> None:
        """The cancel connection is done with. False: it is not known whether PostgreSQL has acted yet."""
        self.cancels = 0
        waiters, self._cancel_waiters = self._cancel_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self.closing or self.connection.closed:
            return
        if not sent_and_closed:
            self.close_needed = ServerClosed.CANCEL_TIMEOUT
        wanted = self.session is not None or self.state == states.BEING_CANCELED
        if self._cancel_again and wanted and self.status == tags.STATUS_BUSY:
            self._cancel_again = False
            self.cancel(now)
        elif self.state == states.BEING_CANCELED and self.status != tags.STATUS_BUSY:
            self._free_again(now)

    def cancel_done(self) -> "asyncio.Future[None]":
        """Ready when the cancel under way is over."""
        waiter = asyncio.get_running_loop().create_future()
        if self.cancels:
            self._cancel_waiters.append(waiter)
        else:
            waiter.set_result(None)
        return waiter

    def _free_again(self, now: int) -> None:
        if self.unclean() is None:
            self.pool.release(self, now, None)
        else:
            self.close(ServerClosed.ABANDONED)

    # The end.

    def close(self, reason: ServerClosed, error: PoolerError | ProtocolError | None = None) -> None:
        """Close, and tell its session if it has one. Returns at once; the slot is free when PostgreSQL has
        closed.
        """
        if self.closing:
            return
        self.closing = True
        self.close_reason = reason
        self.closing_since = self._network.clock()
        session, self.session = self.session, None
        self.pool.move(self, states.CLOSING)
        if reason is not ServerClosed.LOGIN_FAILED:
            age = (self.closing_since - self.connected_at) // 1_000_000_000 if self.connected_at else 0
            logger.info("%sclosing because: %s (age=%ds)", self.prefix, reason.value, age)
        if self.opening is not None:
            self.opening.cancel()
        elif not self.connection.closed:
            self._network.count_server_closed(reason)
            self._say_goodbye(session is not None)
        if session is not None:
            session.server_lost(self, error or Killed(), self.closing_since)

    def _say_goodbye(self, partial: bool) -> None:
        connection = self.connection
        if self.status == tags.STATUS_BUSY and not self.cancels:
            # Without it PostgreSQL would not look at the connection before the query is done.
            self.cancel(self.closing_since)
        connection.receiver = self._ignore
        connection.resume_reading()
        if not partial and self.close_reason is not ServerClosed.ABANDONED:
            connection.write(_TERMINATE)
        connection.end()

    def abort(self) -> None:
        """Give up waiting for PostgreSQL's end of the connection."""
        if self.connection.made:
            self.connection.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def _ignore(self, data: bytes, now: int) -> None:
        """What comes after goodbye."""

    # What its connection tells it.

    def connected(self) -> None:
        """The transport is there; the login reads from it."""

    def writing_paused(self) -> None:
        """PostgreSQL takes its requests too slowly."""
        if self.session is not None:
            self.session.server_full()

    def writing_resumed(self) -> None:
        """PostgreSQL reads again."""
        if self.session is not None:
            self.session.server_drained()

    def failed(self, error: Exception) -> None:
        """What it sent cannot be right, or we failed over it: it is not used again."""
        if self.closing:
            return
        if self.opening is not None and failure_of(self.connection) is not None:
            # Who opens it says so.
            self.connection.abort()
            return
        outstanding = self.outstanding
        blurred = outstanding.blurred and not outstanding.settled
        if not isinstance(error, ProtocolError) or blurred:
            # We are at a loss, and the server is not to blame.
            logger.warning("%sbroken server stream: %s", self.prefix, error)
            told = error if isinstance(error, ProtocolError) else ServerLost("internal error")
            self._drop(told)
            return
        client: Framer | None = None
        if self._errand is not None:
            kind = Violation.OWN_QUERY
            self.framer.buffer = self._errand.chunk
            self.framer.lead = 0
        elif self.connection.receiver == self._from_idle:
            kind = Violation.IDLE
        else:
            kind = kind_of(error, bool(outstanding.queue))
            client = getattr(self.session, "framer", None)
        self._quarantine(error, kind, last_messages(self.framer, client))

    def _quarantine(self, error: ProtocolError, kind: Violation, messages: str) -> None:
        """The server broke the protocol: it is never used again, and its session, if it has one, ends."""
        self._network.violations[kind] += 1
        logger.warning(
            "%sbroken server stream: %s (%s); last messages: %s", self.prefix, error, kind.value, messages
        )
        self._drop(ProtocolError(error.message))

    def _drop(self, told: PoolerError | ProtocolError) -> None:
        """Have nothing to do with the server any more. Who opens it sees that its connection is gone."""
        if self.opening is not None:
            self.connection.abort()
        else:
            self.close(ServerClosed.PROTOCOL, told)

    def lost(self) -> None:
        """The connection is closed: the slot is free."""
        if self.opening is not None:
            return
        now = self._network.clock()
        session, self.session = self.session, None
        if not self.closing:
            self.closing = True
            age = (now - self.connected_at) // 1_000_000_000
            logger.info("%sclosing because: %s (age=%ds)", self.prefix, ServerClosed.SERVER_CLOSED.value, age)
            self._network.count_server_closed(ServerClosed.SERVER_CLOSED)
        self.pool.gone(self, now)
        self._network.gone()
        if session is not None:
            session.server_lost(self, None if self.errored else ServerLost(), now)
