"""A pooler with several lanes through it, each with a broken network on both sides, and nothing in common.

Law: what one lane suffers, no other sees; so they are used at the same time.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.conformance.faults.golden import LONG, SHORT, TABLES, Stage, record
from tests.support import standard
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import FaultProxy
from tests.support.pooler import Pooler, Sections, Settings
from tests.support.server import Server

WIDTH = 6

PATIENT, HASTY = "patient", "hasty"
"""Users whose queries may take as long as the network needs, or not."""
USERS: Sections = {HASTY: {"query_timeout": 0.6}}

SETTINGS: Settings = {
    "server_connect_timeout": 1,
    "client_login_timeout": 3,
    "cancel_wait_timeout": 0.5,
    "server_close_timeout": 0.5,
    "server_login_retry": 0.1,
    "query_wait_notify": 0,
    "log_connections": 0,
    "log_disconnections": 0,
}


@dataclass
class Lane:
    """One database of the pooler, and the two proxies on the way through it."""

    database: str
    before_pooler: FaultProxy
    before_server: FaultProxy

    @property
    def proxies(self) -> tuple[FaultProxy, FaultProxy]:
        return self.before_pooler, self.before_server

    def heal(self) -> None:
        """Ends every fault; what was kept back arrives late."""
        for proxy in self.proxies:
            proxy.heal()
            proxy.links = proxy.alive()


@dataclass
class Network:
    """Everything that a test of faults needs. Lanes alternate between transaction and session mode."""

    server: Server
    pooler: Pooler
    lanes: list[Lane]
    short: list[Stage]
    long: list[Stage]
    numbers: Iterator[int]


@contextmanager
def network(server: Server, settings: Settings | None = None, width: int = WIDTH) -> Iterator[Network]:
    """Builds it up before this server."""
    server.sql(TABLES)
    short, long = record(server, SHORT), record(server, LONG)
    server.sql("truncate journal, mayfly")
    with ExitStack() as stack:
        names = [f"lane_{number}" for number in range(width)]
        behind = [stack.enter_context(FaultProxy((server.host, server.port))) for _ in names]
        entries = {BYSTANDER: standard.entry(server)}
        for number, (name, proxy) in enumerate(zip(names, behind, strict=True)):
            mode = ("transaction", "session")[number % 2]
            there: Settings = {"host": proxy.host, "port": proxy.port}
            entries[name] = {**standard.entry(server, user=server.user, pool_size=2, pool_mode=mode), **there}
        chosen = {**SETTINGS, **(settings or {})}
        names_of_users = dict.fromkeys((PATIENT, HASTY), "")
        pooler = stack.enter_context(standard.build(entries, chosen, USERS, names_of_users, user=server.user))
        before = [stack.enter_context(FaultProxy((pooler.host, pooler.port))) for _ in names]
        lanes = [Lane(*each) for each in zip(names, before, behind, strict=True)]
        yield Network(server, pooler, lanes, short, long, itertools.count(1))
