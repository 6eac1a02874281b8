"""Which PostgreSQL the tests run against.

Law: HOWDAH_TEST_PG (embedded | system | docker | a libpq connection string of a superuser) has the last word;
unset, the embedded wheel comes before the system's PostgreSQL and that before Docker. What cannot be had is
Unavailable with the reason, never a failure.
"""

import contextlib
import gc
import secrets
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from proxy.demo.binaries import Binaries, Origin, installations
from proxy.demo.postgres import SUPERUSER
from tests.support.postgres import Container, PostgresServer, containerised, described, given, started

VARIABLE = "HOWDAH_TEST_PG"
ORIGINS: tuple[Origin, ...] = ("embedded", "system")
NEWEST = 18

Starter = Callable[[], AbstractContextManager[PostgresServer]]


class Unavailable(Exception):
    """There is no such PostgreSQL here; the text is the reason for a skip."""


class DockerClient(Protocol):
    """What is used of the Docker client."""

    def ping(self) -> bool: ...
    def close(self) -> None: ...


def docker_client() -> DockerClient:
    """The real one; gives up on an engine that does not answer within 2 s."""
    return cast(DockerClient, import_module("docker").from_env(timeout=2))


def postgres_container(version: int, password: str) -> Container:
    """A container of the official image, not started; testcontainers moved its modules in 4.15."""
    try:
        module = import_module("testcontainers.community.postgres")
    except ModuleNotFoundError:
        module = import_module("testcontainers.postgres")
    make = module.PostgresContainer
    return cast(Container, make(f"postgres:{version}", username=SUPERUSER, password=password, driver=None))


@dataclass(frozen=True)
class Chooser:
    """Finds a server; what it asks of the machine are fields, so that its own tests can pretend."""

    wanted: str | None
    installed: Callable[[], Sequence[Binaries]] = installations
    docker: Callable[[], DockerClient] = docker_client
    container: Callable[[int, str], Container] = postgres_container

    def choose(self, version: int | None = None, *, contrib_and_tls: bool = False) -> Starter:
        """How to start a PostgreSQL of this major version (None: the preferred one).

        With `contrib_and_tls` the version is a wish and the embedded wheel, which has neither, is left out.
        Raises Unavailable.
        """
        wanted = self.wanted or None
        if wanted not in (None, "docker", *ORIGINS):
            return self._given(str(wanted), version)
        if wanted != "docker":
            binaries = self._installed(version, contrib_and_tls)
            if binaries is not None:
                return lambda: started(binaries)
        name = f"{wanted or 'embedded, system or Docker'} PostgreSQL {version or ''}".strip()
        if wanted in ORIGINS:
            raise Unavailable(f"no {name} here{' with contrib and TLS' if contrib_and_tls else ''}")
        problem = self._docker_problem()
        if problem is not None:
            raise Unavailable(f"no {name} here; Docker: {problem}")
        password = secrets.token_urlsafe(12)
        return lambda: containerised(self.container(version or NEWEST, password), password)

    def _installed(self, version: int | None, contrib_and_tls: bool) -> Binaries | None:
        fits = [
            each
            for each in self.installed()
            if self.wanted in (None, "", each.origin) and not (contrib_and_tls and each.origin == "embedded")
        ]
        exact = [each for each in fits if version in (None, each.version)]
        return next(iter(exact or (fits if contrib_and_tls else [])), None)

    def _given(self, dsn: str, version: int | None) -> Starter:
        has = described(dsn).version
        if version not in (None, has):
            raise Unavailable(f"{VARIABLE} names one server, of version {has} and not {version}")
        return lambda: given(dsn)

    def _docker_problem(self) -> str | None:
        with warnings.catch_warnings():
            # The docker package forgets a socket when no engine answers; here it is collected unseen.
            warnings.simplefilter("ignore", ResourceWarning)
            problem = self._ask_docker()
            gc.collect()
        return problem

    def _ask_docker(self) -> str | None:
        try:
            with contextlib.closing(self.docker()) as client:
                client.ping()
        except Exception as error:  # whatever is wrong with Docker, here it means that there is none
            return str(error)
        return None
