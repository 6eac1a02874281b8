import os
import stat
import time
from pathlib import Path

import pytest

from proxy.demo.scratch import Scratch, scratch
from tests.support.accounts import run_python


def wait_until_gone(*paths: Path, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while any(path.exists() for path in paths):
        assert time.monotonic() < deadline, f"still there: {[path for path in paths if path.exists()]}"
        time.sleep(0.01)


def test_folders_are_new_and_anybody_may_pass_through_the_root() -> None:
    mine = Scratch()
    try:
        assert mine.folder() != mine.folder()
        assert stat.S_IMODE(mine.root.stat().st_mode) == 0o711
    finally:
        mine.close()


def test_closing_removes_everything() -> None:
    mine = Scratch()
    (mine.folder() / "file").write_text("x")
    mine.close()
    assert not mine.root.exists()


def test_a_process_has_one_scratch_folder() -> None:
    assert scratch() is scratch()


def test_a_long_temporary_folder_is_avoided_for_the_sake_of_unix_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    mine = Scratch()
    try:
        assert mine.root.parent == Path("/tmp")
    finally:
        mine.close()


@pytest.mark.parametrize(
    "end", ["pass", "raise SystemExit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
)
def test_whatever_ends_the_process_its_folder_goes(end: str) -> None:
    done = run_python(f"from proxy.demo.scratch import scratch; print(scratch().folder(), flush=True)\n{end}")
    wait_until_gone(Path(done.stdout.strip()).parent)


def test_a_forked_child_leaves_its_parents_folder_alone() -> None:
    done = run_python(
        "import os, sys\n"
        "from proxy.demo.scratch import scratch\n"
        "parent = scratch().root\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    sys.exit(int(scratch().root == parent))\n"
        "print(os.waitpid(pid, 0)[1], parent.exists())\n"
    )
    assert done.stdout == "0 True\n", done.stderr


def test_a_killed_process_takes_its_server_along() -> None:
    done = run_python(
        "import os, signal\n"
        "from proxy.demo.binaries import find\n"
        "from proxy.demo.postgres import Cluster\n"
        "cluster = Cluster(find())\n"
        "cluster.start()\n"
        "print(cluster.pid, cluster.folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    if "NoPostgres" in done.stderr:
        pytest.skip("no PostgreSQL here")
    pid, folder = done.stdout.split()
    wait_until_gone(Path(folder).parent)
    deadline = time.monotonic() + 10
    while alive(int(pid)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
