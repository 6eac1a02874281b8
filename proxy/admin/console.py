"""The session of a client on the admin database: bytes in, replies out, by the simple or extended protocol.

Laws of this file: messages are answered one after the other by one task, so what comes while an order waits
is read when it is done. Long results leave piece by piece, and none is made while the client does not read.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from protocol import sqlstate as codes
from protocol.backend import (
    READY,
    CommandComplete,
    EmptyQueryResponse,
    ErrorResponse,
    NoticeResponse,
    PortalSuspended,
)
from protocol.errors import ProtocolError
from protocol.framer import Collector
from protocol.frontend import (
    Bind,
    Close,
    Describe,
    Execute,
    FunctionCall,
    Parse,
    Query,
    Sync,
    Terminate,
    decode,
)
from protocol.looks import frontend_caps
from protocol.messages import Message
from proxy.admin import journal
from proxy.admin.commands import Action, Identity, Remark, Task, resolve
from proxy.admin.parser import CommandError, parse
from proxy.admin.portals import Portal, Portals
from proxy.admin.show import View
from proxy.admin.table import Formats, Row, result_formats, row_description, row_encoder
from proxy.control import Order, OrderRefused, Orders, Pause, Shutdown, ShutdownMode, WaitClose
from proxy.log import Prefix, printable
from proxy.snapshot import text as decoded
from proxy.source import Source
from proxy.version import PGBOUNCER_VERSION

GREETING: Final[dict[bytes, bytes]] = {
    b"server_version": f"{PGBOUNCER_VERSION}/bouncer".encode(),
    b"client_encoding": b"UTF8",
    b"server_encoding": b"UTF8",
    b"DateStyle": b"ISO",
    b"TimeZone": b"GMT",
    b"standard_conforming_strings": b"on",
    b"is_superuser": b"on",
}
"""The parameters a client of the console is told at login."""

MESSAGE_LIMIT: Final = 4 << 20
BACKLOG_LIMIT: Final = 8 << 20
"""Bytes in one message, and bytes sent ahead while an order waits, before the connection is ended."""
_PIECE: Final = 32 << 10

_log: Final = logging.getLogger("howdah")


class Statistics(Protocol):
    """Where the console's own commands are counted, as those of any other database."""

    query_count: int
    xact_count: int


class Console:
    """One logged-in client of the admin database.

    `write` sends bytes and `close` ends the connection after what was written; neither may raise. To be used
    from the event loop only.
    """

    def __init__(
        self,
        identity: Identity,
        write: Callable[[bytes], None],
        close: Callable[[], None],
        source: Source,
        control: Orders,
        statistics: Statistics | None = None,
    ) -> None:
        self._identity = identity
        self._statistics = statistics
        self._write = write
        self._close = close
        self._source = source
        self._control = control
        self._prefix = Prefix("C", identity.client, "pgbouncer", identity.user, identity.address)
        self._collector = Collector(frontend_caps(MESSAGE_LIMIT))
        self._portals = Portals(self._resolve)
        self._out = bytearray()
        self._backlog = 0
        self._skipping = False
        self._ended = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._settled = asyncio.Event()
        self._settled.set()
        self._task: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None

    def receive(self, data: bytes) -> None:
        """Take bytes from the client; they are answered soon, not now."""
        if self._ended:
            return
        self._collector.feed(data)
        self._backlog += len(data)
        if self._backlog > BACKLOG_LIMIT:
            self._fail("too much was sent ahead to the admin console", codes.PROGRAM_LIMIT_EXCEEDED)
            self.lost()
            return
        self._arrived.set()
        self._settled.clear()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def lost(self) -> None:
        """The connection is gone: give up waiting. What a PAUSE has begun stays."""
        self._ended = True
        if self._task is not None:
            self._task.cancel()

    async def settled(self) -> None:
        """Return when all that has come is answered. May be cancelled."""
        await self._settled.wait()

    def cancel(self) -> None:
        """The client sent a CancelRequest (Ctrl-C): a waiting PAUSE is undone, a WAIT_CLOSE given up."""
        if self._waiting is not None:
            self._waiting.cancel()

    def pause_writing(self) -> None:
        """The client reads slowly: make no more replies for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has read what there was."""
        self._writable.set()

    async def _serve(self) -> None:
        try:
            while not self._ended:
                self._arrived.clear()
                message = self._collector.next()
                if message is not None:
                    await self._handle(decode(*message))
                    await asyncio.sleep(0)  # a long pipeline must not hold up the clients of other databases
                else:
                    self._backlog = 0
                    await self._flush()
                    self._settled.set()
                    await self._arrived.wait()
        except ProtocolError as error:
            self._fail(error.message, error.sqlstate)
        except Exception:
            _log.exception("%sadmin console failed", self._prefix)
            self._fail("internal error", codes.INTERNAL_ERROR)

    async def _handle(self, message: Message) -> None:
        simple = isinstance(message, Query | FunctionCall)
        if self._skipping and not isinstance(message, Sync | Terminate):
            return
        try:
            await self._answer(message)
        except (CommandError, OrderRefused) as error:
            detail = error.detail if isinstance(error, OrderRefused) else None
            self._out += _report(ErrorResponse, "ERROR", error.sqlstate, error.message, detail)
            self._skipping = not simple
        if not self._ended and (simple or isinstance(message, Sync)):
            self._out += READY

    async def _answer(self, message: Message) -> None:
        match message:
            case Query():
                await self._query(message.query)
            case Parse():
                self._out += self._portals.parse(message)
            case Bind():
                self._out += self._portals.bind(message)
            case Describe():
                self._out += self._portals.describe(message)
            case Execute():
                await self._run(self._portals.portal(message.portal), max(message.max_rows, 0))
            case Close():
                self._out += self._portals.close(message)
            case Sync():
                self._skipping = False
                self._portals.end_group()
            case FunctionCall():
                raise CommandError("admin console has no functions", codes.FEATURE_NOT_SUPPORTED)
            case Terminate():
                self._ended = True
                self._close()
            case _:
                pass  # Flush asks for what happens anyway; COPY messages mean nothing outside of a COPY

    async def _query(self, text: bytes) -> None:
        self._portals.simple_query()
        if self._statistics is not None:
            self._statistics.query_count += 1
            self._statistics.xact_count += 1
        action = self._resolve(text)
        formats: Formats = ()
        if isinstance(action, View):
            formats = result_formats((), action.columns)
            self._out += row_description(action.columns, formats)
        await self._run(Portal(action, formats), 0)

    def _resolve(self, text: bytes) -> Action | None:
        try:
            command = parse(text)
            action = None if command is None else resolve(command, self._identity)
        except CommandError as error:
            line = journal.refused(decoded(text), error.message)
            _log.warning("%sadmin command refused: %s", self._prefix, line)
            raise
        if isinstance(action, View):
            # Exporters look every few seconds: for the log of who did what, this is too much.
            _log.debug("%sadmin command: %s", self._prefix, printable(decoded(text.strip())))
        return action

    async def _run(self, portal: Portal, max_rows: int) -> None:
        match portal.action:
            case None:
                self._out += EmptyQueryResponse().encode()
            case View() as view:
                if portal.rows is None:
                    portal.rows = await self._look(view)
                encode = row_encoder(view.columns, portal.formats)
                if await self._send_rows(portal.rows, encode, max_rows):
                    self._out += PortalSuspended().encode()
                else:
                    self._complete("SHOW")
            case _ if portal.done:
                raise CommandError("portal cannot be run again", codes.NOT_IN_PREREQUISITE_STATE)
            case Remark() as remark:
                portal.done = True
                code = codes.SUCCESSFUL_COMPLETION
                self._out += _report(NoticeResponse, "NOTICE", code, remark.message, remark.detail)
                self._complete(remark.command_tag)
            case Task() as task:
                portal.done = True
                _log.info("%sadmin command: %s", self._prefix, printable(task.text))
                await self._execute(task.order)
                if not self._ended:
                    self._complete(task.command_tag)

    async def _look(self, view: View) -> Iterator[Row]:
        """The rows of a view; whoever did not answer is named."""
        snapshots = await self._source.take(view.parts)
        for worker in snapshots.silent():
            text = f"worker {worker} did not answer and is left out"
            self._out += _report(NoticeResponse, "WARNING", codes.WARNING, text, None)
        return iter(view.rows(snapshots))

    async def _send_rows(self, rows: Iterator[Row], encode: Callable[[Row], bytes], limit: int) -> bool:
        """Send rows, at most `limit` of them unless it is 0; True if the limit was reached."""
        sent = 0
        for row in rows:
            if not row:
                await asyncio.sleep(0)
                continue
            self._out += encode(row)
            sent += 1
            if sent == limit:
                return True
            if len(self._out) >= _PIECE:
                await self._flush()
                await asyncio.sleep(0)
        return False

    async def _execute(self, order: Order) -> None:
        await self._flush()
        execution = asyncio.create_task(self._control.execute(order))
        self._waiting = execution if isinstance(order, Pause | WaitClose) else None
        try:
            await execution
        except asyncio.CancelledError:
            if self._ended:
                raise
            await self._control.undo(order)
            raise OrderRefused("canceling statement due to user request", codes.QUERY_CANCELED) from None
        except OrderRefused as error:
            _log.warning("%sadmin command failed: %s", self._prefix, printable(error.message))
            raise
        finally:
            self._waiting = None
        # The process ends any moment now; as with PgBouncer, that is the answer.
        self._ended = order == Shutdown(ShutdownMode.IMMEDIATE)

    def _complete(self, command_tag: str) -> None:
        self._out += CommandComplete(command_tag.encode("utf-8", "backslashreplace")).encode()

    async def _flush(self) -> None:
        if self._out:
            self._write(bytes(self._out))
            self._out.clear()
        await self._writable.wait()

    def _fail(self, message: str, sqlstate: str) -> None:
        """End the connection with a FATAL error."""
        self._ended = True
        self._out += _report(ErrorResponse, "FATAL", sqlstate, message, None)
        self._write(bytes(self._out))
        self._out.clear()
        self._close()


def _report(
    kind: type[ErrorResponse] | type[NoticeResponse],
    severity: str,
    sqlstate: str,
    message: str,
    detail: str | None,
) -> bytes:
    """A report with the fields PgBouncer's console sends, which are fewer than PostgreSQL's."""
    texts = {"S": severity, "C": sqlstate, "M": message} | ({"D": detail} if detail else {})
    return kind({code: text.encode("utf-8", "backslashreplace") for code, text in texts.items()}).encode()
