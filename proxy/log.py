"""Log lines in PgBouncer's format, or as JSON; to stderr, a file, syslog.

The law of this file: logging never raises, and what a client or a server said reaches a line only through
`printable`. A record becomes text where it is logged; `log_writer` writes it in a thread of its own.
"""

import atexit
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

from proxy.log_writer import FLUSH_SECONDS, FileSink, Line, Sink, StreamSink, SyslogSink, Writer

FATAL: Final = logging.CRITICAL
ERROR: Final = logging.ERROR
WARNING: Final = logging.WARNING
LOG: Final = logging.INFO
DEBUG: Final = logging.DEBUG
NOISE: Final = 5

FIELD_LIMIT: Final = 1024
LINE_LIMIT: Final = 16 * 1024

_NAMES: Final = {
    FATAL: "FATAL",
    ERROR: "ERROR",
    WARNING: "WARNING",
    LOG: "LOG",
    DEBUG: "DEBUG",
    NOISE: "NOISE",
}
_THRESHOLDS: Final = (LOG, DEBUG, NOISE)
_LIBRARIES: Final = ("asyncio", "aiohttp", "concurrent")


class LogSettings(Protocol):
    """The settings this module reads; `config.Settings` has them under these names."""

    @property
    def logfile(self) -> str | None: ...
    @property
    def log_format(self) -> str: ...
    @property
    def syslog(self) -> int: ...
    @property
    def syslog_facility(self) -> str: ...
    @property
    def syslog_ident(self) -> str: ...
    @property
    def verbose(self) -> int: ...


def printable(value: bytes | str, limit: int = FIELD_LIMIT) -> str:
    """Make foreign text safe for one line of a log: control, bidirectional and undecodable characters are
    escaped, and what is longer than `limit` characters is cut and marked. Escaping twice changes nothing."""
    # A multibyte character has at most four bytes, so this never cuts away what would be shown.
    text = value[: 4 * limit + 4].decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    if len(text) > limit:
        text = text[:limit] + "..."
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Prefix:
    """The beginning of each line about one connection: `C-0x1f: app/alice@10.0.0.7:51234 `.

    `kind` is C for a client and S for a server, `number` the id that SHOW CLIENTS or SHOW SERVERS prints.
    Give it as an argument (`log.info("%stext", prefix)`), then JSON lines carry its parts as fields. It
    becomes text when a line does: most are never written. `database` and `user` may be told later.
    """

    __slots__ = ("_address", "_kind", "_number", "database", "user")

    def __init__(
        self, kind: str, number: int, database: bytes | str | None, user: bytes | str | None, address: str
    ) -> None:
        self._kind = kind
        self._number = number
        self.database = database
        self.user = user
        self._address = address

    def __str__(self) -> str:
        return "{connection}: {database}/{user}@{address} ".format_map(self.parts())

    def parts(self) -> dict[str, str]:
        """By name, with `(nodb)` and `(nouser)` while these are unknown."""
        return {
            "connection": f"{self._kind}-{self._number:#x}",
            "database": printable(self.database) if self.database else "(nodb)",
            "user": printable(self.user) if self.user else "(nouser)",
            "address": printable(self._address),
        }


def level_name(level: int) -> str:
    """PgBouncer's word for a level of the logging module."""
    return next((name for number, name in _NAMES.items() if level >= number), "NOISE")


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:
        text = f"{record.msg} (log arguments do not fit)"
    return printable(text, LINE_LIMIT)


def _traceback(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[1] is None:
        return []
    text = logging.Formatter().formatException(record.exc_info)
    return [printable(line) for line in text.splitlines()]


class TextFormatter:
    """`2026-11-21 10:00:00.123 UTC [4711] LOG text`, in local time as PgBouncer writes it."""

    def __init__(self) -> None:
        self._second = -1
        self._date = ""
        self._zone = ""

    def __call__(self, record: logging.LogRecord) -> Line:
        second = int(record.created)
        if second != self._second:
            local = time.localtime(second)
            self._date = time.strftime("%Y-%m-%d %H:%M:%S", local)
            self._zone = time.strftime("%Z", local)
            self._second = second
        # The tab keeps a traceback's lines from ever looking like lines of their own.
        bare = "\n\t".join([f"{level_name(record.levelno)} {_message(record)}", *_traceback(record)])
        at = f"{self._date}.{int(record.msecs):03d} {self._zone} [{record.process}]"
        return Line(record.levelno, f"{at} {bare}", bare)


def format_json(record: logging.LogRecord) -> Line:
    """One JSON object per line; the parts of the connection's prefix become fields."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    fields: dict[str, object] = {
        "time": f"{at}.{int(record.msecs):03d}Z",
        "level": level_name(record.levelno),
        "pid": record.process,
    }
    message = _message(record)
    arguments = record.args if isinstance(record.args, tuple) else ()
    found = next((argument for argument in arguments if isinstance(argument, Prefix)), None)
    if found is not None:
        fields |= found.parts()
        message = message.removeprefix(str(found))
    fields["message"] = message
    if traceback := _traceback(record):
        fields["traceback"] = traceback
    text = json.dumps(fields, ensure_ascii=False)
    return Line(record.levelno, text, text)


class Handler(logging.Handler):
    """Hands records to the writer, as text."""

    def __init__(self, formatter: Callable[[logging.LogRecord], Line], writer: Writer) -> None:
        super().__init__()
        self._formatter = formatter
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._formatter(record)
        except Exception as exc:
            where = f"{record.pathname}:{record.lineno}"
            text = f"{level_name(record.levelno)} a log line cannot be shown ({type(exc).__name__}): {where}"
            line = Line(record.levelno, text, text)
        self._writer.put(line)
        if record.levelno >= FATAL:
            self._writer.flush()


_writer: Final = Writer()


def _sinks(settings: LogSettings, quiet: bool) -> list[Sink]:
    sinks: list[Sink] = [] if quiet else [StreamSink(sys.stderr)]
    try:
        if settings.syslog:
            sinks.append(SyslogSink(settings.syslog_facility, settings.syslog_ident))
        if settings.logfile:
            sinks.append(FileSink(settings.logfile))
    except OSError:
        for sink in sinks:
            sink.close()
        raise
    return sinks


def check(settings: LogSettings) -> None:
    """Raise OSError if the file or syslog cannot be opened: for the moment before stderr is given up."""
    for sink in _sinks(settings, quiet=True):
        sink.close()


def setup(settings: LogSettings, *, quiet: bool = False, verbose: int = 0) -> None:
    """Log as the settings say; call it again when they have changed.

    `quiet` keeps stderr free, `verbose` counts the -v of the command line (0 LOG, 1 DEBUG, 2 and more NOISE).
    Raises OSError when the file or syslog cannot be opened; what was in use before then stays.
    """
    _writer.use(_sinks(settings, quiet))
    threshold = _THRESHOLDS[min(max(settings.verbose, verbose, 0), 2)]
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, Handler)]:
        root.removeHandler(handler)
    root.addHandler(Handler(format_json if settings.log_format == "json" else TextFormatter(), _writer))
    root.setLevel(threshold)
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(threshold, WARNING) if threshold > NOISE else NOISE)


def reopen() -> None:
    """Open the log file anew, so that a rotated one is let go. Errors are logged."""
    _writer.reopen()


def flush(seconds: float = FLUSH_SECONDS) -> bool:
    """Wait until all lines so far are written; False if that takes longer than `seconds`."""
    return _writer.flush(seconds)


def leave() -> None:
    """In a forked process: the log is the other one's, until `setup` is called here."""
    _writer.leave()


atexit.register(flush)
