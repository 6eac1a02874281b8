import subprocess
import sys
import time
import zipfile
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.bench import processes, targets
from tests.bench.cluster import Address, Cluster
from tests.support import compiled

SERVER = Address("127.0.0.1", 5432, "alice", "app", "secret")
CLUSTER = Cluster(SERVER, "15.4", Path("pgbench"), {})


def alive(pid: int) -> bool:
    # Whoever inherits an orphan reaps it in his own time; until then it is a zombie.
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_ini_leads_to_the_server() -> None:
    assert targets.ini(SERVER, {"listen_port": "6432"}) == (
        "[databases]\napp = host=127.0.0.1 port=5432\n[pgbouncer]\nlisten_port = 6432\n"
    )


def test_a_pooler_has_the_secrets_in_clear_and_as_verifiers(tmp_path: Path) -> None:
    targets.howdah(CLUSTER, tmp_path, ["true"])
    assert (tmp_path / "howdah" / "users.txt").read_text() == '"alice" "secret"\n'
    assert '"alice" "SCRAM-SHA-256$4096:' in (tmp_path / "howdah" / "verifiers.txt").read_text()


def test_a_pooler_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    pooler = targets.howdah(CLUSTER, tmp_path, ["sh", "-c", 'cat "$0" "$@" | grep pool_mode; exit 1'])
    with pytest.raises(targets.NotStarted, match="pool_mode = session"):
        pooler.start({"pool_mode": "session"})
    assert pooler.pid is None


WORK_TREE = [sys.executable, "-m", "proxy"]


def test_a_named_command_takes_the_place_of_the_work_tree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOWDAH_BENCH_COMMAND", raising=False)
    assert targets.howdah_program(tmp_path, interpreted=True) == WORK_TREE
    monkeypatch.setenv("HOWDAH_BENCH_COMMAND", "'/a path/howdah' -q")
    assert targets.howdah_program(tmp_path) == ["/a path/howdah", "-q"]


def test_a_compiled_build_is_measured_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HOWDAH_BENCH_COMMAND", raising=False)
    wheel = tmp_path / "howdah.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("proxy/__init__.py", "")
        archive.writestr("proxy/cli.py", "def main():\n    print('from the wheel')\n")
    monkeypatch.setattr(compiled, "kept_wheel", lambda: wheel)
    done = subprocess.run(targets.howdah_program(tmp_path), capture_output=True, text=True, check=True)
    assert done.stdout == "from the wheel\n"


def test_without_a_compiler_the_work_tree_is_measured_and_the_reason_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cannot() -> Path:
        raise compiled.CannotCompile("needs a C compiler")

    monkeypatch.delenv("HOWDAH_BENCH_COMMAND", raising=False)
    monkeypatch.setattr(compiled, "kept_wheel", cannot)
    assert targets.howdah_program(tmp_path) == WORK_TREE
    assert capsys.readouterr().err == "not compiled: needs a C compiler\n"


def test_postgresql_itself_needs_no_start() -> None:
    direct = targets.Direct(CLUSTER)
    assert (direct.start({}), direct.pid, direct.address) == (0.0, None, SERVER)


def test_a_process_that_does_not_obey_is_killed_with_its_children(tmp_path: Path) -> None:
    stubborn = f"trap '' TERM; sleep 60 & echo $! > {tmp_path}/child; touch {tmp_path}/ready; wait; wait"
    process = processes.start(["sh", "-c", stubborn], tmp_path / "log", tmp_path)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
    child = int((tmp_path / "child").read_text())
    processes.end(process, SIGTERM, patience=0.05)
    assert process.returncode == -9
    deadline = time.monotonic() + 5
    while alive(child):
        assert time.monotonic() < deadline
