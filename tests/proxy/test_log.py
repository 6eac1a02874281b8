"""What a log line looks like, and that no input can break it."""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from proxy import log
from proxy.log_writer import Line

# What Grafana's log board and home-made shippers look for.
SHIPPERS = re.compile(
    r"^\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d{3} \w+ \[\d+\] (LOG|ERROR|WARNING|FATAL|DEBUG|NOISE) .*"
)


@dataclass(frozen=True)
class Settings:
    logfile: str | None = None
    log_format: str = "text"
    syslog: int = 0
    syslog_facility: str = "daemon"
    syslog_ident: str = "howdah"
    verbose: int = 0


class Logged:
    """What has reached stderr so far; every call waits until all of it is written."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def unflushed(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    def lines(self) -> list[str]:
        assert log.flush()
        return self.unflushed().splitlines()


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Logged]:
    """A stderr that is kept, and a logging module that is left as it was found."""
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "asyncio", "aiohttp", "concurrent")}
    yield Logged(capsys)
    log.flush()
    for handler in [handler for handler in root.handlers if isinstance(handler, log.Handler)]:
        root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def emit(message: object, *arguments: object) -> None:
    """Give a record to our handler alone: the test runner's own raises what ours must not."""
    record = logging.LogRecord("proxy", log.LOG, __file__, 1, message, arguments, None)
    (handler,) = (handler for handler in logging.getLogger().handlers if isinstance(handler, log.Handler))
    handler.handle(record)


def test_a_line_has_the_shape_log_shippers_look_for(stderr: Logged) -> None:
    log.setup(Settings())
    logging.getLogger("proxy.client").info("%slogin attempt", log.Prefix("C", 31, b"app", b"alice", "h:1"))
    (line,) = stderr.lines()
    assert SHIPPERS.match(line)
    assert line.endswith(" LOG C-0x1f: app/alice@h:1 login attempt")


@pytest.mark.parametrize(
    ("level", "word"),
    [
        (log.FATAL, "FATAL"),
        (log.ERROR, "ERROR"),
        (log.WARNING, "WARNING"),
        (log.LOG, "LOG"),
        (log.DEBUG, "DEBUG"),
        (log.NOISE, "NOISE"),
    ],
)
def test_levels_have_the_words_of_pgbouncer(stderr: Logged, level: int, word: str) -> None:
    log.setup(Settings(verbose=2))
    logging.getLogger("proxy").log(level, "x")
    (line,) = stderr.lines()
    assert line.endswith(f"] {word} x")


@pytest.mark.parametrize(
    ("setting", "flags", "words"),
    [
        (0, 0, ["LOG"]),
        (0, 1, ["LOG", "DEBUG"]),
        (1, 0, ["LOG", "DEBUG"]),
        (0, 2, ["LOG", "DEBUG", "NOISE"]),
        (3, 1, ["LOG", "DEBUG", "NOISE"]),
        (0, 9, ["LOG", "DEBUG", "NOISE"]),
    ],
)
def test_the_larger_of_setting_and_flags_decides_what_is_logged(
    stderr: Logged, setting: int, flags: int, words: list[str]
) -> None:
    log.setup(Settings(verbose=setting), verbose=flags)
    for level in (log.LOG, log.DEBUG, log.NOISE):
        logging.getLogger("proxy").log(level, "x")
    assert [line.split()[-2] for line in stderr.lines()] == words


def test_libraries_speak_only_of_trouble_unless_noise_is_asked_for(stderr: Logged) -> None:
    log.setup(Settings(), verbose=1)
    logging.getLogger("asyncio").debug("selector")
    logging.getLogger("aiohttp.access").info("GET")
    assert stderr.lines() == []
    log.setup(Settings(), verbose=2)
    logging.getLogger("asyncio").debug("selector")
    assert len(stderr.lines()) == 1


def test_names_not_yet_known_are_shown_as_pgbouncer_shows_them() -> None:
    assert str(log.Prefix("S", 255, None, None, "unix:6432")) == "S-0xff: (nodb)/(nouser)@unix:6432 "


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain", "plain"),
        ("Grüße", "Grüße"),
        (b"a\nb", r"a\x0ab"),
        (b"\x1b[31m\x00\x7f", r"\x1b[31m\x00\x7f"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("a\u202eb\u2028c", r"a\u202eb\u2028c"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
        (b"x" * 2000, "x" * 1024 + "..."),
        ("é".encode() * 2000, "é" * 1024 + "..."),
    ],
)
def test_foreign_text_is_escaped_and_cut(raw: bytes | str, shown: str) -> None:
    assert log.printable(raw) == shown


def test_escaping_twice_changes_nothing() -> None:
    once = log.printable(bytes(range(256)))
    assert log.printable(once) == once
    assert once.isprintable()


def test_a_name_with_a_newline_cannot_forge_a_line(stderr: Logged) -> None:
    log.setup(Settings())
    logging.getLogger("proxy").info("no such user: %s", "eve\n2026-11-21 10:00:00.000 UTC [1] LOG forged")
    (line,) = stderr.lines()
    assert r"eve\x0a2026" in line


def test_the_lines_of_a_traceback_cannot_pass_for_lines_of_their_own(stderr: Logged) -> None:
    log.setup(Settings())
    try:
        raise ValueError("bad\n2026-11-21 10:00:00.000 UTC [1] LOG forged")
    except ValueError:
        logging.getLogger("proxy").exception("it failed")
    first, *rest = stderr.lines()
    assert first.endswith("ERROR it failed")
    assert rest
    assert all(line.startswith("\t") for line in rest)
    assert "ValueError: bad" in "".join(rest)


def test_arguments_that_do_not_fit_are_reported_and_raise_nothing(stderr: Logged) -> None:
    log.setup(Settings())
    emit("%d clients", "many")
    (line,) = stderr.lines()
    assert line.endswith("LOG %d clients (log arguments do not fit)")


def test_a_record_that_cannot_be_shown_says_where_it_came_from(stderr: Logged) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError

    log.setup(Settings())
    emit(Unprintable())
    (line,) = stderr.lines()
    assert line == f"LOG a log line cannot be shown (RuntimeError): {__file__}:1"


def test_json_lines_carry_the_parts_of_the_prefix_as_fields(stderr: Logged) -> None:
    log.setup(Settings(log_format="json"))
    named = log.Prefix("C", 16, b"app", "al\nice", "10.0.0.7:51234")
    logging.getLogger("proxy").warning('%sclosing because: "%s"', named, "client_idle_timeout")
    (line,) = stderr.lines()
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert isinstance(fields.pop("pid"), int)
    assert fields == {
        "level": "WARNING",
        "connection": "C-0x10",
        "database": "app",
        "user": r"al\x0aice",
        "address": "10.0.0.7:51234",
        "message": 'closing because: "client_idle_timeout"',
    }


def test_a_json_line_without_connection_has_only_the_message_and_its_traceback(stderr: Logged) -> None:
    log.setup(Settings(log_format="json"))
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("proxy").exception("it failed")
    fields = json.loads(stderr.lines()[0])
    assert fields.keys() == {"time", "pid", "level", "message", "traceback"}
    assert fields["traceback"][-1] == "ValueError: bad"


def test_quiet_keeps_stderr_free_and_still_fills_the_file(stderr: Logged, tmp_path: Path) -> None:
    path = tmp_path / "howdah.log"
    log.setup(Settings(logfile=str(path)), quiet=True)
    logging.getLogger("proxy").info("process up")
    assert stderr.lines() == []
    assert path.read_text().endswith("LOG process up\n")


def test_after_a_rotation_reopen_writes_to_a_new_file(stderr: Logged, tmp_path: Path) -> None:
    path = tmp_path / "howdah.log"
    log.setup(Settings(logfile=str(path)), quiet=True)
    logging.getLogger("proxy").info("before")
    stderr.lines()
    path.rename(tmp_path / "howdah.log.1")
    log.reopen()
    logging.getLogger("proxy").info("after")
    stderr.lines()
    assert (tmp_path / "howdah.log.1").read_text().endswith("LOG before\n")
    assert path.read_text().count("\n") == 1


def test_a_setup_that_fails_leaves_the_log_as_it_was(stderr: Logged, tmp_path: Path) -> None:
    log.setup(Settings())
    with pytest.raises(FileNotFoundError):
        log.setup(Settings(logfile=str(tmp_path / "no" / "howdah.log")), quiet=True)
    logging.getLogger("proxy").info("still here")
    assert stderr.lines()[0].endswith("LOG still here")


def test_a_second_setup_replaces_the_first(stderr: Logged, tmp_path: Path) -> None:
    log.setup(Settings())
    log.setup(Settings(log_format="json"))
    logging.getLogger("proxy").info("once")
    (line,) = stderr.lines()
    assert json.loads(line)["message"] == "once"


def test_a_fatal_line_is_written_before_the_call_returns(stderr: Logged) -> None:
    log.setup(Settings())
    logging.getLogger("proxy").critical("cannot go on")
    assert stderr.unflushed().endswith("FATAL cannot go on\n")


class Syslog:
    """Stands for the syslog daemon's sink."""

    made: ClassVar[list["Syslog"]] = []

    def __init__(self, facility: str, ident: str) -> None:
        self.names = (facility, ident)
        self.lines: list[str] = []
        self.closed = False
        self.made.append(self)

    def write(self, lines: Sequence[Line]) -> None:
        self.lines += [line.bare for line in lines]

    def reopen(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_syslog_gets_the_lines_under_the_names_of_the_settings(
    stderr: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "SyslogSink", Syslog)
    monkeypatch.setattr(Syslog, "made", [])
    log.setup(Settings(syslog=1, syslog_facility="local1", syslog_ident="pooler"), quiet=True)
    emit("process up")
    assert stderr.lines() == []
    (sink,) = Syslog.made
    assert sink.names == ("local1", "pooler")
    assert sink.lines == ["LOG process up"]


def test_a_setup_that_fails_closes_what_it_had_opened(
    stderr: Logged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(log, "SyslogSink", Syslog)
    monkeypatch.setattr(Syslog, "made", [])
    with pytest.raises(FileNotFoundError):
        log.setup(Settings(syslog=1, logfile=str(tmp_path / "no" / "log")))
    assert [sink.closed for sink in Syslog.made] == [True]
