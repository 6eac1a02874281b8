"""The extended protocol's side of the console: prepared statements and portals.

There are no parameters and no transactions here: every portal ends at the next Sync, as PostgreSQL's do
outside a transaction block. Methods return the reply, and raise CommandError where PostgreSQL sends an error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from protocol import sqlstate as codes
from protocol.backend import BindComplete, CloseComplete, NoData, ParameterDescription, ParseComplete
from protocol.frontend import STATEMENT, Bind, Close, Describe, Parse
from proxy.admin.commands import Action
from proxy.admin.parser import CommandError
from proxy.admin.show import View
from proxy.admin.table import Formats, Row, result_formats, row_description
from proxy.snapshot import text

LIMIT: Final = 1000
"""Prepared statements and portals per connection, each."""

_DUPLICATE_CURSOR: Final = "42P03"
_INVALID_CURSOR: Final = "34000"


@dataclass(slots=True)
class Portal:
    """A command ready to run; None is the empty one. `rows` are those not sent yet, once it has been run."""

    action: Action | None
    formats: Formats = ()
    rows: Iterator[Row] | None = None
    done: bool = False


class Portals:
    """Prepared statements and portals of one connection, by name."""

    def __init__(self, resolve: Callable[[bytes], Action | None]) -> None:
        self._resolve = resolve
        self._statements: dict[bytes, Action | None] = {}
        self._portals: dict[bytes, Portal] = {}

    def parse(self, message: Parse) -> bytes:
        """Prepare a command; what is wrong with its text or not allowed is said now."""
        if message.name and message.name in self._statements:
            raise CommandError(
                f'prepared statement "{text(message.name)}" already exists', codes.DUPLICATE_STATEMENT
            )
        if message.types:
            raise CommandError("admin console takes no parameters", codes.FEATURE_NOT_SUPPORTED)
        if len(self._statements) >= LIMIT:
            raise CommandError("too many prepared statements", codes.PROGRAM_LIMIT_EXCEEDED)
        self._statements.pop(message.name, None)
        self._statements[message.name] = self._resolve(message.query)
        return ParseComplete().encode()

    def bind(self, message: Bind) -> bytes:
        """Make a portal of a prepared command."""
        action = self._statement(message.statement)
        if message.values:
            raise CommandError(
                f"bind message supplies {len(message.values)} parameters, but prepared statement "
                f'"{text(message.statement)}" requires 0'
            )
        if message.portal and message.portal in self._portals:
            raise CommandError(f'portal "{text(message.portal)}" already exists', _DUPLICATE_CURSOR)
        if len(self._portals) >= LIMIT:
            raise CommandError("too many portals", codes.PROGRAM_LIMIT_EXCEEDED)
        columns = action.columns if isinstance(action, View) else ()
        formats = result_formats(message.result_formats, columns) if columns else ()
        self._portals[message.portal] = Portal(action, formats)
        return BindComplete().encode()

    def describe(self, message: Describe) -> bytes:
        """Say what a prepared command or a portal returns."""
        if message.kind == STATEMENT:
            portal, head = Portal(self._statement(message.name)), ParameterDescription([]).encode()
        else:
            portal, head = self.portal(message.name), b""
        if not isinstance(portal.action, View):
            return head + NoData().encode()
        columns = portal.action.columns
        return head + row_description(columns, portal.formats or result_formats((), columns))

    def portal(self, name: bytes) -> Portal:
        """Return the portal of this name."""
        if name not in self._portals:
            raise CommandError(f'portal "{text(name)}" does not exist', _INVALID_CURSOR)
        return self._portals[name]

    def close(self, message: Close) -> bytes:
        """Forget a statement or a portal; one that does not exist is no error."""
        if message.kind == STATEMENT:
            self._statements.pop(message.name, None)
        else:
            self._portals.pop(message.name, None)
        return CloseComplete().encode()

    def end_group(self) -> None:
        """Forget the portals, at a Sync."""
        self._portals.clear()

    def simple_query(self) -> None:
        """A simple query destroys the portals and the unnamed statement."""
        self._portals.clear()
        self._statements.pop(b"", None)

    def _statement(self, name: bytes) -> Action | None:
        if name not in self._statements:
            shown = f'prepared statement "{text(name)}"' if name else "unnamed prepared statement"
            raise CommandError(f"{shown} does not exist", codes.INVALID_STATEMENT_NAME)
        return self._statements[name]
