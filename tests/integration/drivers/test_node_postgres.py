"""node-postgres with named queries; npm brings it, into a temporary folder, where node is installed."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.drivers.conftest import CALM
from tests.integration.drivers.crowd import CLIENTS, PATIENCE, TURNS, Place
from tests.support.fault_proxy import wait_until

pytestmark = pytest.mark.usefixtures("alive")

VERSION = "8.23.1"
SCRIPT = Path(__file__).with_name("node_postgres.cjs")
INSTALL = ["npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--no-save", "--no-package-lock"]


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `pg` is; skips without node, and where npm cannot get it."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no {missing[0]} here")
    home = tmp_path_factory.mktemp("node-postgres")
    command = [*INSTALL, "--ignore-scripts", "--prefix", str(home), f"pg@{VERSION}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install pg here: no answer in 90 s")
    if done.returncode:
        pytest.skip(f"npm cannot install pg here: {done.stderr.strip()[-200:]}")
    return home / "node_modules" / "pg"


def settings(module: Path, place: Place, **more: int) -> str:
    target = place.target
    connection = {"host": target.host, "port": target.port, "user": target.user, "database": place.database}
    return json.dumps(
        {"module": str(module), "connection": connection, "clients": CLIENTS, "turns": TURNS, **more}
    )


def played(place: Place, argument: str) -> list[str]:
    """Lets the script play until what disturbs the place is over; what its clients lost."""
    command, pipe = ["node", str(SCRIPT), argument], subprocess.PIPE
    with (
        place.disturb(place),
        subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe) as process,
    ):
        try:
            wait_until(lambda: place.over.is_set() or process.poll() is not None, PATIENCE, "it is over")
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 0, err
    losses: list[str] = json.loads(out)["losses"]
    return losses


def test_a_crowd_with_named_queries(place: Place, module: Path) -> None:
    losses = played(place, settings(module, place))
    assert len(losses) <= place.kills, losses


@pytest.mark.parametrize("place", ["postgresql", CALM], indirect=True)
def test_its_pool_lends_each_connection_to_many(place: Place, module: Path) -> None:
    assert played(place, settings(module, place, pool=CLIENTS // 2)) == []
