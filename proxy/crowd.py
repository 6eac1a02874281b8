"""Counts of connections, for those to whom a row for each would be too much.

Law of this file: what it has seen is counted and forgotten, so that it can be shown to it in parts.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from proxy.snapshot import ClientSnapshot, CrowdSnapshot, ServerSnapshot

NAME_LIMIT: Final = 64
"""Characters of an application name that are told apart."""


class Crowd:
    """Connections by what /metrics says of them."""

    def __init__(self) -> None:
        self._clients = Counter[tuple[str, str, str, str]]()
        self._encryption = Counter[tuple[str, str, str]]()

    def add_clients(self, clients: Iterable[ClientSnapshot]) -> None:
        """Count clients; those that log in only by what encrypts them."""
        for client in clients:
            self._encrypted("client", client.tls)
            if client.state != "login":
                name = client.application_name[:NAME_LIMIT]
                self._clients[client.database, client.user, name, client.shown_state] += 1

    def add_servers(self, servers: Iterable[ServerSnapshot]) -> None:
        """Count servers."""
        for server in servers:
            self._encrypted("server", server.tls)

    def _encrypted(self, side: str, tls: str) -> None:
        version, _, cipher = tls.partition("/")
        self._encryption[side, version, cipher] += 1

    def counted(self) -> CrowdSnapshot:
        """All that was counted."""
        return CrowdSnapshot(dict(self._clients), dict(self._encryption))
