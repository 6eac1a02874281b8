"""What lies in deploy/, and the Dockerfile, do what they promise."""

import configparser
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate

from proxy.demo.binaries import Account, run_as
from proxy.demo.scratch import scratch
from tests.support.compiled import hasty_compiler
from tests.support.dockerfile import Build, Image, Instruction, package_index, parse
from tests.support.ports import free_port

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = parse((ROOT / "Dockerfile").read_text())
# Building the image compiles the hot files.
pytestmark = pytest.mark.timeout(1800)
UNKNOWN_ACCOUNT = Account("unknown", 54321, 54321)


def run(*words: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def check(config: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "check", str(config)]
    return run(*command, environment=os.environ | dict(environment or {}))


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))


def manifest(kind: str) -> dict[str, Any]:
    return next(each for each in manifests() if each["kind"] == kind)


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return loaded


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(DEPLOY / "howdah.service")
    return parser


@pytest.mark.parametrize(
    "name", sorted(path.name for path in DEPLOY.iterdir() if path.suffix in (".ini", ".toml"))
)
def test_every_configuration_is_accepted(name: str) -> None:
    done = check(DEPLOY / name, {"APP_PASSWORD": "secret"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_configuration_would_be_noticed(tmp_path: Path) -> None:
    config = tmp_path / "howdah.toml"
    config.write_text((DEPLOY / "howdah.toml").read_text().replace("pool_mode", "pool_mood", 1))
    assert check(config).returncode == 1


def test_the_two_example_files_say_the_same() -> None:
    from config import read

    ours, theirs = (read(str(DEPLOY / name)).settings for name in ("howdah.toml", "pgbouncer.ini"))
    different = {"conffile", "unknown_startup_parameters"}
    assert ours.model_dump(exclude=different) == theirs.model_dump(exclude=different)


def test_the_secrets_of_the_examples_are_obviously_fake() -> None:
    lines = (DEPLOY / "userlist.txt").read_text().splitlines()
    lines += [line.strip() for line in manifest("Secret")["stringData"]["userlist.txt"].splitlines()]
    assert lines
    assert all(re.fullmatch(r'"\w+" "change-me[a-z-]*"', line) for line in lines)


def test_the_manifests_are_valid_to_the_last_field() -> None:
    for each in manifests():
        validate(each, "1.33", strict=True)


def test_the_configuration_of_the_sidecar_is_accepted(tmp_path: Path) -> None:
    for kind, key in (("ConfigMap", "data"), ("Secret", "stringData")):
        for name, text in manifest(kind)[key].items():
            (tmp_path / name).write_text(text)
    done = check(tmp_path / "howdah.toml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sidecar_starts_first_stops_last_and_is_probed() -> None:
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    assert ports == {"postgres": 6432, "metrics": 9127}
    paths = {
        kind: sidecar[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert sidecar["lifecycle"]["preStop"]["sleep"]["seconds"] < pod["terminationGracePeriodSeconds"]
    assert sidecar["securityContext"]["readOnlyRootFilesystem"]
    assert {mount["name"] for mount in sidecar["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def test_compose_waits_for_postgresql_and_mounts_what_exists() -> None:
    services = compose()["services"]
    assert services["howdah"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert services["postgres"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    sources = [mount.split(":")[0] for mount in services["howdah"]["volumes"]]
    assert all((DEPLOY / source).is_file() for source in sources)
    assert (DEPLOY / services["howdah"]["build"]["context"]).resolve() == ROOT
    assert {"data"} == set(compose()["volumes"])


def test_compose_publishes_only_on_the_loopback_address() -> None:
    assert compose()["services"]["howdah"]["ports"] == ["127.0.0.1:6432:6432", "127.0.0.1:9127:9127"]
    assert "ports" not in compose()["services"]["postgres"]


def test_compose_uses_the_entry_for_the_server_that_the_configuration_names() -> None:
    from config import read

    settings = read(str(DEPLOY / "compose.toml"), environ={"APP_PASSWORD": "x"}).settings
    assert settings.databases["*"].host in compose()["services"]
    assert "APP_PASSWORD" in compose()["services"]["howdah"]["environment"]


def test_the_unit_says_what_systemd_must_know() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["KillSignal"] == "SIGINT"
    assert service["User"] != "root"
    assert int(service["LimitNOFILE"]) >= 65536
    assert {"NoNewPrivileges", "ProtectSystem", "PrivateTmp", "RuntimeDirectory"} <= service.keys()


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze")
    text = (DEPLOY / "howdah.service").read_text()
    (tmp_path / "howdah.service").write_text(text.replace("/opt/howdah/bin/howdah", "/bin/true"))
    done = run(analyze, "--man=no", "verify", str(tmp_path / "howdah.service"))
    assert (done.returncode, done.stderr) == (0, "")


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = run(hadolint, ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def last(name: str) -> str:
    return [each.text for each in DOCKERFILE if each.name == name][-1]


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def test_the_image_stops_by_the_signal_that_lets_transactions_finish() -> None:
    assert last("STOPSIGNAL") == "SIGINT"


def test_the_context_lets_through_what_is_copied_and_nothing_compiled() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copies = [each.text.split() for each in DOCKERFILE if each.name == "COPY" and "--from" not in each.text]
    copied = {word for words in copies for word in words[:-1]}
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == copied
    assert "**/*.so" in lines


def test_an_instruction_that_is_not_understood_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="VOLUME is not understood"):
        Build(ROOT, tmp_path, Path(sys.executable), {}).run([Instruction("VOLUME", "/data")])


def python_for_anybody() -> Path:
    test = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    for path in (getattr(sys, "_base_executable", ""), "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            if path and run_as(stranger(), [path, "-c", test]).returncode == 0:
                return Path(path)
    pytest.skip("needs a Python with venv that any user can run")


def stranger() -> Account | None:
    return UNKNOWN_ACCOUNT if os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def image() -> Image:
    environment = package_index()
    # With pip's cache a second run is quick; what is installed is the same, by the hashes.
    environment |= {"PIP_NO_CACHE_DIR": "0", "PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip")}
    folder = scratch().folder()
    environment["CC"] = str(hasty_compiler(folder))
    return Build(ROOT, folder, python_for_anybody(), environment).run(DOCKERFILE)


@contextlib.contextmanager
def running(image: Image, folder: Path, metrics_port: int) -> Iterator[subprocess.Popen[bytes]]:
    account = stranger()
    (folder / "howdah.toml").write_text(
        f'[howdah]\nlisten_addr = "127.0.0.1"\nlisten_port = {free_port()}\nunix_socket_dir = ""\n'
        'auth_type = "any"\n[databases."*"]\nhost = "127.0.0.1"\nuser = "nobody"\n'
    )
    (folder / "howdah.toml").chmod(0o644)
    process = subprocess.Popen(
        [*map(image.placed, image.entrypoint), str(folder / "howdah.toml")],
        env=image.environment | {"HOWDAH__METRICS_PORT": str(metrics_port)},
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def healthy(image: Image, metrics_port: int) -> bool:
    environment = image.environment | {"HOWDAH__METRICS_PORT": str(metrics_port)}
    command = [image.placed(word) for word in image.healthcheck]
    return run_as(stranger(), command, environment=environment).returncode == 0


@pytest.mark.slow
def test_the_image_serves_as_any_user_and_ends_by_its_stop_signal(image: Image) -> None:
    port = free_port()
    with running(image, scratch().folder(), port) as process:
        deadline = time.monotonic() + 30
        while not healthy(image, port):
            assert process.poll() is None, "the pooler ended"
            assert time.monotonic() < deadline, "the health check never succeeded"
        # Another address of this machine than 127.0.0.1: metrics listen on all of them.
        socket.create_connection(("127.0.0.2", port), timeout=5).close()
        process.send_signal(signal.Signals[image.stop_signal])
        assert process.wait(timeout=30) == 0
    assert not healthy(image, port)


@pytest.mark.slow
def test_the_image_holds_the_runtime_and_nothing_else(image: Image) -> None:
    python = image.placed("/opt/howdah/bin/python")
    names = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    found = set(run_as(None, [python, "-I", "-c", names]).stdout.replace("_", "-").split())
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert found - {"setuptools"} == (locked | {"howdah"}) - missing_here(locked - found)


def missing_here(names: set[str]) -> set[str]:
    """Those of the names that the lock asks for on other platforms only."""
    text = (ROOT / "requirements.lock").read_text()
    return {name for name in names if re.search(rf"^{re.escape(name)}==\S+ ;", text, re.MULTILINE)}


@pytest.mark.slow
def test_the_entrypoint_of_the_image_is_the_command(image: Image) -> None:
    words = [image.placed(word) for word in image.entrypoint]
    done = run_as(stranger(), [*words, "-V"], environment=image.environment)
    assert done.returncode == 0, done.stderr
    assert "Howdah 0.1.0" in done.stdout
    assert image.command == ["/etc/howdah/howdah.toml"]
