"""Text of a console command -> verb and words, by PgBouncer's grammar.

A text is one command: `VERB [WORD][;]` or `SET key = value[;]`. Nothing here backtracks, so a megabyte of
junk costs no more than reading it once, and an answer quotes only its beginning.
"""

import re
from dataclasses import dataclass
from typing import Final

from protocol import sqlstate as codes
from proxy.snapshot import text as decoded

VERB_LIMIT: Final = 15
ARGUMENT_LIMIT: Final = 63
VALUE_LIMIT: Final = 255
"""PgBouncer's limits, in bytes; quotes do not count."""

# A command that keeps the limits has fewer characters than this, white space at both ends left out.
_TEXT_LIMIT: Final = 2048
_QUOTE_LIMIT: Final = 900

_SPACE: Final = "[ \t\n\r]"
_WORD: Final = r'"(?:[^"]|"")*+"|[0-9a-zA-Z_]++'
_STRING: Final = r"'(?:[^']|'')*+'"
_COMMAND: Final = re.compile(rf"({_WORD})(?:{_SPACE}++({_WORD}))?", re.ASCII)
_SET: Final = re.compile(
    rf"set{_SPACE}++({_WORD}){_SPACE}*+(?:=|to){_SPACE}*+({_STRING}|{_WORD})", re.ASCII | re.IGNORECASE
)


class CommandError(Exception):
    """A command that is not run; `message` is for the one who gave it."""

    def __init__(self, message: str, sqlstate: str = codes.PROTOCOL_VIOLATION) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Command:
    """A verb in lower case and its argument, None if it has none. `text` is what was typed."""

    text: str
    verb: str
    argument: str | None = None


@dataclass(frozen=True, slots=True)
class SetCommand:
    """`SET key = value`."""

    text: str
    key: str
    value: str


def invalid_command(text: str) -> CommandError:
    """PgBouncer's answer to what it does not know; a long text is cut."""
    quoted = text if len(text) <= _QUOTE_LIMIT else text[:_QUOTE_LIMIT] + "..."
    return CommandError(f"invalid command '{quoted}', use SHOW HELP;")


def parse(text: bytes) -> Command | SetCommand | None:
    """Return the command, or None for an empty text. Raises CommandError."""
    command = text.strip(b" \t\n\r")
    shown = decoded(command[: _TEXT_LIMIT + 1])
    if len(command) > _TEXT_LIMIT:
        raise invalid_command(shown)
    bare = shown.removesuffix(";").rstrip(" \t\n\r")
    if not bare:
        return None
    if match := _COMMAND.fullmatch(bare):
        verb, argument = match[1], match[2]
        if not _fits(_unquote(verb), VERB_LIMIT) or not _fits(_unquote(argument or ""), ARGUMENT_LIMIT):
            raise CommandError("bad arguments")
        # As in PgBouncer, an empty pair of quotes counts as no argument.
        return Command(shown, _unquote(verb).lower(), _unquote(argument or "") or None)
    if match := _SET.fullmatch(bare):
        key, value = _unquote(match[1]), _unquote(match[2])
        if not key or not _fits(key, ARGUMENT_LIMIT) or not _fits(value, VALUE_LIMIT):
            raise CommandError("bad arguments")
        return SetCommand(shown, key, value)
    raise invalid_command(shown)


def _unquote(word: str) -> str:
    quote = word[:1]
    return word[1:-1].replace(quote * 2, quote) if quote in ('"', "'") else word


def _fits(word: str, limit: int) -> bool:
    return len(word.encode("utf-8", "replace")) <= limit
