"""`howdah demo` itself: options, what it says, signals, and that it cleans up; at the end for real."""

import inspect
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.demo import command
from proxy.demo.binaries import NoPostgres
from proxy.demo.client import Address
from proxy.demo.daemon import Daemon, Pooling
from proxy.demo.postgres import HOST
from tests.support.ports import free_port

SERVER = Address(HOST, 5433, "demo", "demo", "pass")


def test_options_have_the_defaults_of_the_readme() -> None:
    options = command._parse([])
    assert vars(options) == {
        "clients": 500,
        "servers": 10,
        "workers": "1",
        "seconds": None,
        "port": None,
        "think": 500,
    }
    assert command._parse(["--workers", "auto"]).workers == "auto"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--clients", "0"],
        ["--seconds", "-1"],
        ["--port", "x"],
        ["--think", "-1"],
        ["--workers", "65"],
        ["--nonsense"],
    ],
)
def test_impossible_options_end_with_exit_code_1(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 1
    assert "howdah demo" in capsys.readouterr().err


def test_without_postgresql_there_is_one_line_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find() -> None:
        raise NoPostgres("no PostgreSQL found: sudo apt-get install postgresql")

    monkeypatch.setattr(command, "find", find)
    assert command.main([]) == 1
    assert capsys.readouterr().err == ("howdah demo: no PostgreSQL found: sudo apt-get install postgresql\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_demo_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def interrupted(options: object) -> int:
        signal.raise_signal(number)
        return 0

    monkeypatch.setattr(command, "_demo", interrupted)
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert command.main([]) == 0
    assert capsys.readouterr().out == "\nCleaning up.\n"
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_an_interrupt_while_the_loop_is_made_leaves_nothing_to_complain_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    async def work() -> None:
        pass

    monkeypatch.setattr("uvloop.new_event_loop", interrupted)
    main = work()
    with pytest.raises(KeyboardInterrupt):
        command._run(main)
    assert inspect.getcoroutinestate(main) == inspect.CORO_CLOSED


def test_the_invitation_names_database_console_and_metrics() -> None:
    daemon = Daemon(SERVER, 6000, Pooling(1, 1, {}))
    text = command.invitation(daemon, "/opt/psql", 5)
    assert "/opt/psql 'postgresql://demo:pass@127.0.0.1:6000/demo'" in text
    assert "/opt/psql 'postgresql://demo:pass@127.0.0.1:6000/pgbouncer' -c 'SHOW POOLS'" in text
    assert f"curl http://127.0.0.1:{daemon.metrics_port}/metrics" in text
    assert "It ends after 5 s" in text
    assert "Ctrl-C ends it." in command.invitation(daemon, "psql", None)


def test_a_port_that_is_asked_for_and_taken_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "choose_port", lambda port: port + 1)
    assert command.main(["--port", "6000"]) == 1
    assert capsys.readouterr().err == "howdah demo: port 6000 is in use\n"


# --- for real


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A place for temporary files: empty, short enough for unix sockets, open to the server's user."""
    with tempfile.TemporaryDirectory(prefix="hd", dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o777)
        yield place


@pytest.fixture
def start(temporary: Path) -> Callable[..., "subprocess.Popen[str]"]:
    def start_demo(*options: str) -> "subprocess.Popen[str]":
        code = (
            "from proxy.demo import command; command.DIRECT_SECONDS = command.REFRESH_SECONDS = 0.3\n"
            "import sys; sys.exit(command.main(sys.argv[1:]))"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, "--port", str(free_port()), *options],
            env=os.environ | {"TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start_demo


@pytest.mark.parametrize("workers", ["1", "2"])
def test_all_clients_are_served_through_howdah_where_postgresql_refuses_most(
    start: Callable[..., "subprocess.Popen[str]"], temporary: Path, workers: str
) -> None:
    options = ("--clients", "150", "--servers", "4", "--seconds", "2", "--think", "20", "--workers", workers)
    with start(*options) as demo:
        out, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, ""), out
    found = re.search(r"(\d+) clients are in, (\d+) were refused:", out)
    assert found is not None, out
    # Three of a hundred connections are the superuser's; one more may still be held by whoever made the
    # database.
    let_in, refused = map(int, found.groups())
    assert let_in + refused == 150
    assert 90 <= let_in <= 97
    assert re.search(r"\d+ x  FATAL: sorry, too many clients already", out)
    table = out[out.index("2. 150 clients through Howdah") :]
    figures = [line.split() for line in table.splitlines() if re.match(r" +150 ", line)]
    assert figures, out
    assert all(int(line[3]) <= 4 for line in figures)
    assert re.search(r"[1-9][\d,]* transactions of 150 clients, 0 failed\.", table)
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_after_an_interrupt(
    start: Callable[..., "subprocess.Popen[str]"], temporary: Path
) -> None:
    with start("--clients", "5") as demo:
        assert demo.stdout is not None
        while "through Howdah" not in (line := demo.stdout.readline()):
            assert line, demo.stderr.read() if demo.stderr else ""
        demo.send_signal(signal.SIGTERM)
        out, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (0, "")
    assert out.endswith("Cleaning up.\n")
    assert list(temporary.iterdir()) == []
