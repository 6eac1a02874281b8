"""The writing thread: order, dropping, failing sinks, forks."""

import io
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from proxy import log_writer
from proxy.log_writer import FileSink, Line, StreamSink, SyslogSink, Writer


def line(text: str, level: int = 20) -> Line:
    return Line(level, f"at {text}", text)


class Recorder:
    """A sink that keeps what it gets, and waits at a gate when one is closed."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.closed = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def write(self, lines: Sequence[Line]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        self.texts += [line.bare for line in lines]

    def reopen(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Failing:
    def write(self, lines: Sequence[Line]) -> None:
        raise OSError("no space left")

    def reopen(self) -> None:
        raise OSError("no space left")

    def close(self) -> None:
        raise OSError("no space left")


def test_lines_keep_their_order_and_reach_every_sink() -> None:
    writer, sinks = Writer(), [Recorder(), Recorder()]
    writer.use([*sinks])
    for number in range(1000):
        writer.put(line(str(number)))
    assert writer.flush()
    assert [sink.texts for sink in sinks] == [[str(number) for number in range(1000)]] * 2


def test_a_slow_sink_makes_lines_drop_and_never_makes_the_caller_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log_writer, "QUEUE_LIMIT", 10)
    writer, sink = Writer(), Recorder()
    writer.use([sink])
    sink.gate.clear()
    writer.put(line("first"))
    assert sink.entered.wait(10)
    for number in range(15):
        writer.put(line(str(number)))
    assert writer.dropped == 5
    assert not writer.flush(0.01)
    sink.gate.set()
    assert writer.flush()
    assert sink.texts == ["first", *map(str, range(10))]
    assert caplog.messages == ["5 log lines dropped: the log is written too slowly"]


def test_a_sink_that_fails_does_not_keep_lines_from_the_others() -> None:
    writer, sink = Writer(), Recorder()
    writer.use([Failing(), sink])
    writer.put(line("a"))
    writer.reopen()
    writer.put(line("b"))
    assert writer.flush()
    assert sink.texts == ["a", "b"]


def test_lines_put_before_a_change_of_sinks_go_to_the_old_ones() -> None:
    writer, old, new = Writer(), Recorder(), Recorder()
    writer.use([old])
    writer.put(line("a"))
    writer.use([new])
    writer.put(line("b"))
    assert writer.flush()
    assert (old.texts, new.texts) == (["a"], ["b"])
    assert old.closed
    assert not new.closed


def test_a_sink_that_cannot_be_closed_does_not_end_the_thread() -> None:
    writer, sink = Writer(), Recorder()
    writer.use([Failing()])
    writer.use([sink])
    writer.put(line("a"))
    assert writer.flush()
    assert sink.texts == ["a"]


def test_flushing_a_writer_that_never_wrote_starts_no_thread() -> None:
    before = threading.active_count()
    assert Writer().flush()
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_writes_with_a_thread_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = Writer()
    writer.use([FileSink(str(path))])
    writer.put(line("parent"))
    assert writer.flush()
    pid = os.fork()
    if pid == 0:
        writer.put(line("child"))
        os._exit(0 if writer.flush() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert path.read_text() == "at parent\nat child\n"


def test_a_stream_gets_whole_lines() -> None:
    stream = io.StringIO()
    sink = StreamSink(stream)
    sink.write([line("a"), line("b")])
    sink.reopen()
    sink.close()
    assert stream.getvalue() == "at a\nat b\n"


def test_a_file_that_cannot_be_reopened_stays_in_use(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    sink = FileSink(str(directory / "log"))
    directory.rename(tmp_path / "e")
    with pytest.raises(FileNotFoundError):
        sink.reopen()
    sink.write([line("a")])
    sink.close()
    assert (tmp_path / "e" / "log").read_text() == "at a\n"


def listen(path: Path) -> socket.socket:
    daemon = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    daemon.settimeout(10)
    daemon.bind(str(path))
    return daemon


@pytest.mark.parametrize(
    ("facility", "level", "priority"),
    [("daemon", 20, 30), ("local3", 40, 155), ("user", 10, 15), ("?", 50, 26)],
)
def test_syslog_gets_priority_ident_and_the_line_without_time(
    tmp_path: Path, facility: str, level: int, priority: int
) -> None:
    with listen(tmp_path / "log") as daemon:
        sink = SyslogSink(facility, "howdah", str(tmp_path / "log"))
        sink.write([line("LOG text", level)])
        assert daemon.recv(1000) == f"<{priority}>howdah[{os.getpid()}]: LOG text".encode()
        sink.close()


def test_syslog_connects_anew_when_its_daemon_was_restarted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with listen(path):
        sink = SyslogSink("daemon", "howdah", str(path))
    path.unlink()
    with listen(path) as daemon:
        sink.write([line("LOG back")])
        assert daemon.recv(1000).endswith(b"LOG back")
        sink.close()


def test_a_missing_syslog_daemon_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SyslogSink("daemon", "howdah", str(tmp_path / "log"))
