"""A daemon that was forked is one that was started: in all that its process can be asked."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import warm
from tests.support.pooler import ROOT, Pooler, run_to_the_end

DAEMON = (sys.executable, "-m", "proxy")
STATUS = r"(?:Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|Threads|Shd\w+|Sig(?:Pnd|Blk|Ign|Cgt)|Cap\w+):.*"


class Anew(Pooler):
    may_fork = False


@pytest.fixture
def started() -> Iterator[tuple[Pooler, Pooler]]:
    """One that was forked and one that was not."""
    with ExitStack() as stack:
        forked, anew = (
            stack.enter_context(kind({"app": {"host": "127.0.0.1"}}, user="u")) for kind in (Pooler, Anew)
        )
        yield forked, anew


def forked(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of one that runs to its end."""
    with (tmp_path / "output").open("ab") as output:
        process = warm.start([*DAEMON, *arguments], ROOT, output)
        assert process is not None
        return process.wait(30), (tmp_path / "output").read_text()


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["-V"], {}),
        (["nothing.ini"], {}),
        (["check", "{bad}"], {"HOWDAH__POOL_MODE": "never"}),
        ([], {"COLUMNS": "40"}),
    ],
    ids=["version", "no file", "mistakes", "nothing"],
)
def test_what_it_says_and_returns_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: Mapping[str, str]
) -> None:
    bad = tmp_path / "bad.ini"
    bad.write_text("[pgbouncer]\nmax_client_conns = 10\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = [word.format(bad=bad) for word in arguments]
    done = run_to_the_end(*words)
    assert forked(tmp_path, *words) == (done.returncode, done.stdout + done.stderr)


def test_its_process_is_the_same(started: tuple[Pooler, Pooler]) -> None:
    def shown(pooler: Pooler) -> dict[str, object]:
        place = Path(f"/proc/{pooler.pid}")
        return {
            "status": re.findall(STATUS, (place / "status").read_text()),
            "limits": (place / "limits").read_text(),
            "directory": (place / "cwd").readlink(),
            "session": (place / "stat").read_text().rpartition(")")[2].split()[2:4],
            "descriptors": sorted(kinds(place / "fd", pooler)),
        }

    def kinds(folder: Path, pooler: Pooler) -> list[str]:
        links = [str(each.readlink()).replace(str(pooler.directory), "") for each in folder.iterdir()]
        return [re.sub(r"\d+", "", link) for link in links]

    forked, anew = started
    assert isinstance(forked.process, warm.Forked)
    assert isinstance(anew.process, subprocess.Popen)
    assert shown(forked) == shown(anew)


def test_who_waits_for_it_hears_of_its_end(started: tuple[Pooler, Pooler]) -> None:
    pooler, _ = started
    with pytest.raises(subprocess.TimeoutExpired):
        pooler.process.wait(0.01)
    assert pooler.process.poll() is None
    pooler.signal(signal.SIGQUIT)
    assert pooler.process.wait(30) == pooler.process.poll() == pooler.process.returncode == 0


def test_the_signal_that_ended_it_is_known(started: tuple[Pooler, Pooler]) -> None:
    for pooler in started:
        pooler.process.kill()
        assert pooler.process.wait(30) == -signal.SIGKILL
        pooler.process.kill()


def test_none_is_forked_where_python_would_start_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    with (tmp_path / "output").open("ab") as output:
        assert warm.start([*DAEMON, "-V"], ROOT, output) is None


def test_only_the_daemon_is_forked(tmp_path: Path) -> None:
    with (tmp_path / "output").open("ab") as output:
        assert warm.start([sys.executable, "-c", "pass"], ROOT, output) is None
