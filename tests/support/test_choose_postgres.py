import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import psycopg
import pytest

from proxy.demo.binaries import Binaries, Origin
from tests.support.choose_postgres import Chooser, Unavailable, postgres_container
from tests.support.postgres import ROLES, PostgresServer

E18 = Binaries(Path("/pg/18"), 18, "18.1", "embedded")
E16 = Binaries(Path("/pg/16"), 16, "16.1", "embedded")
S15 = Binaries(Path("/pg/15"), 15, "15.1", "system")


class Engine:
    """A Docker client that answers, or does not."""

    def __init__(self, problem: str | None = None) -> None:
        self.problem = problem
        self.closed = False

    def ping(self) -> bool:
        if self.problem:
            raise ConnectionError(self.problem)
        return True

    def close(self) -> None:
        self.closed = True


class Box:
    """A container whose server is really a cluster that runs already."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.running = False

    def start(self) -> Self:
        self.running = True
        return self

    def stop(self) -> None:
        self.running = False

    def get_container_host_ip(self) -> str:
        return self.server.host

    def get_exposed_port(self, port: int) -> int:
        assert port == 5432
        return self.server.port

    def get_logs(self) -> tuple[bytes, bytes]:
        return b"out \xff", b"err"


class Machine:
    """A pretended machine: what is installed, whether Docker answers, and what was started."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, installed: Sequence[Binaries], docker: str | None = "no engine"
    ) -> None:
        self.engine = Engine(docker)
        self.installed = installed
        self.begun: list[object] = []
        monkeypatch.setattr("tests.support.choose_postgres.started", self.begun.append)
        monkeypatch.setattr(
            "tests.support.choose_postgres.containerised", lambda box, _: self.begun.append(box)
        )

    def choose(
        self, wanted: str | None, version: int | None = None, *, contrib_and_tls: bool = False
    ) -> object:
        chooser = Chooser(wanted, lambda: self.installed, lambda: self.engine, self.container)  # type: ignore[arg-type]
        chooser.choose(version, contrib_and_tls=contrib_and_tls)()
        return self.begun[-1]

    def container(self, version: int, password: str) -> str:
        assert password
        return f"postgres:{version}"


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch, [E18, E16, S15], docker=None)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch, [])


@pytest.mark.parametrize("wanted", [None, ""])
def test_unset_prefers_the_embedded_wheel_and_takes_the_system_for_contrib(
    full: Machine, wanted: str | None
) -> None:
    assert full.choose(wanted) is E18
    assert full.choose(wanted, 16) is E16
    assert full.choose(wanted, 15, contrib_and_tls=True) is S15


def test_unset_takes_the_system_where_there_is_no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine(monkeypatch, [S15]).choose(None) is S15


def test_unset_asks_docker_last(full: Machine) -> None:
    assert full.choose(None, 17) == "postgres:17"
    assert full.engine.closed


def test_any_version_will_do_for_contrib(full: Machine) -> None:
    assert full.choose(None, 14, contrib_and_tls=True) is S15


def test_the_embedded_wheel_is_never_taken_for_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        Machine(monkeypatch, [E18, E16], docker=None).choose(None, 15, contrib_and_tls=True) == "postgres:15"
    )


@pytest.mark.parametrize(("wanted", "chosen"), [("embedded", E18), ("system", S15)])
def test_the_origin_that_was_asked_for_is_taken(full: Machine, wanted: Origin, chosen: Binaries) -> None:
    assert full.choose(wanted) is chosen


def test_docker_is_taken_although_binaries_are_installed(full: Machine) -> None:
    assert full.choose("docker") == "postgres:18"
    assert full.choose("docker", 16) == "postgres:16"


@pytest.mark.parametrize(
    ("wanted", "version", "contrib", "reason"),
    [
        ("embedded", 13, False, "no embedded PostgreSQL 13 here"),
        ("embedded", 15, True, "no embedded PostgreSQL 15 here with contrib and TLS"),
        ("system", 18, False, "no system PostgreSQL 18 here"),
    ],
)
def test_an_origin_that_lacks_it_is_not_replaced_by_another(
    full: Machine, wanted: str, version: int, contrib: bool, reason: str
) -> None:
    with pytest.raises(Unavailable, match=f"^{reason}$"):
        full.choose(wanted, version, contrib_and_tls=contrib)


@pytest.mark.parametrize("wanted", ["docker", None])
def test_an_engine_that_does_not_answer_is_the_reason(bare: Machine, wanted: str | None) -> None:
    with pytest.raises(Unavailable, match=r"PostgreSQL here; Docker: no engine$"):
        bare.choose(wanted)
    assert bare.engine.closed


def test_a_docker_client_that_cannot_be_made_is_the_reason() -> None:
    def broken() -> Engine:
        raise ImportError("no docker package")

    with pytest.raises(Unavailable, match="Docker: no docker package"):
        Chooser(None, list, broken).choose()


@pytest.mark.parametrize("path", ["testcontainers.community.postgres", "testcontainers.postgres"])
def test_the_container_is_of_the_official_image(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def container(image: str, **options: object) -> tuple[str, dict[str, object]]:
        return image, options

    monkeypatch.setitem(sys.modules, "testcontainers.community.postgres", None)
    monkeypatch.setitem(sys.modules, path, SimpleNamespace(PostgresContainer=container))
    made: object = postgres_container(16, "secret")
    assert made == ("postgres:16", {"username": "postgres", "password": "secret", "driver": None})


def test_a_connection_string_is_used_as_it_is(postgres: PostgresServer) -> None:
    dsn = postgres.dsn()
    with Chooser(dsn).choose()() as server:
        assert (server.port, server.version, server.user) == (postgres.port, postgres.version, postgres.user)
        assert server.sql("SELECT 1") == [(1,)]
        with pytest.raises(pytest.skip.Exception, match="not ours to stop"):
            _ = server.own


def test_a_connection_string_of_another_version_is_a_skip(postgres: PostgresServer) -> None:
    with pytest.raises(Unavailable, match=rf"names one server, of version {postgres.version} and not 7$"):
        Chooser(postgres.dsn()).choose(7)


@pytest.fixture
def box(new_postgres: Callable[..., PostgresServer]) -> Box:
    return Box(new_postgres(roles=(), hba=["host all all all trust"]))


def test_a_container_offers_the_same_roles_and_login_rules(box: Box) -> None:
    chooser = Chooser("docker", docker=lambda: Engine(), container=lambda version, password: box)
    with chooser.choose()() as server:
        assert box.running
        assert server.log() == "out \N{REPLACEMENT CHARACTER}err"
        rules = server.sql("SELECT user_name[1], auth_method FROM pg_hba_file_rules")
        assert {("app_md5", "md5"), ("app_plain", "password"), ("all", "scram-sha-256")} <= set(rules)
        for role in ROLES:
            psycopg.connect(server.dsn(user=role.name)).close()
    assert not box.running
