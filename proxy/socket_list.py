"""Clients and servers as SHOW lists them, one by one."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from protocol import tags
from proxy.names import to_wire
from proxy.pool import states
from proxy.pool.units import SECOND
from proxy.snapshot import ClientSnapshot, ServerSnapshot, text

if TYPE_CHECKING:
    from proxy.client import Client
    from proxy.server import Server

_MICROSECOND: Final = 1000
# No address of a process has bits from here on: they tell workers apart.
_ADDRESS_BITS: Final = 48


class Sockets:
    """Of one worker; `clients` are those that live, by id."""

    def __init__(self, clients: "Mapping[int, Client]", clock: Callable[[], int], number: int) -> None:
        self._clients = clients
        self._clock = clock
        self._worker = number << _ADDRESS_BITS

    def _place(self, socket: object) -> str:
        return hex(self._worker + id(socket))

    def clients(self, clients: "Iterable[Client]") -> list[ClientSnapshot]:
        """Clients as they are now."""
        moment = _Moment(self._clock())
        return [self._client(client, moment) for client in clients]

    def _client(self, client: "Client", moment: "_Moment") -> ClientSnapshot:
        wishes = client.wishes
        session = client.session
        local = client.connection.local()
        since = self._asked_at(client)
        server = session.server if session is not None else None
        prepared = session.prepared if session is not None else None
        waits = session is not None and session.held is not None
        busy = waits or (server is not None and server.status == tags.STATUS_BUSY)
        return ClientSnapshot(
            id=client.id,
            state=self._state(client),
            user=shown(wishes.user) if wishes is not None else "(nouser)",
            database=shown(wishes.database) if wishes is not None else "(nodb)",
            addr=client.peer[0],
            port=client.peer[1],
            local_addr=local[0],
            local_port=local[1],
            connect_time=moment.wall(client.connected_at),
            request_time=moment.wall(since),
            waited=(moment.now - since) // _MICROSECOND if busy else 0,
            ptr=self._place(client),
            link=self._place(server) if server is not None else "",
            tls=client.connection.tls.text if client.connection.tls is not None else "",
            application_name=shown(client.application_name),
            prepared_statements=len(prepared.names) if prepared is not None else 0,
            pkt_avail=sum(piece[1] for piece in session.held or ()) if session is not None else 0,
            send_avail=client.connection.unsent(),
        )

    @staticmethod
    def _state(client: "Client") -> str:
        session = client.session
        if client.is_cancel:
            return "active_cancel_req"
        if session is not None and session in session.pool.waiting:
            return "waiting"
        if session is not None or client.console is not None:
            return "active"
        return "waiting" if client.waits_for_login else "login"

    @staticmethod
    def _asked_at(client: "Client") -> int:
        """When the latest request began to wait, or to run (ns)."""
        session = client.session
        if session is None:
            return client.connected_at
        if session in session.pool.waiting:
            return session.waiting_since
        return session.query_started or client.connected_at

    def servers(self, servers: "Iterable[Server]") -> list[ServerSnapshot]:
        """Servers as they are now."""
        moment = _Moment(self._clock())
        return [self._server(server, moment) for server in servers]

    def _server(self, server: "Server", moment: "_Moment") -> ServerSnapshot:
        pool = server.pool
        at = pool.tracked.index(b"application_name")
        session = server.session
        client = self._clients.get(session.id) if session is not None else None
        local = server.connection.local() if server.connection.made else ("", 0)
        swept = pool.sessions.get(session) if session is not None else None
        requested = swept.query_started if swept is not None else server.released_at
        return ServerSnapshot(
            id=server.id,
            state=states.SERVER_STATES[server.state],
            user=shown(pool.key.user),
            database=shown(pool.key.database),
            addr=server.address[0],
            port=server.address[1],
            local_addr=local[0],
            local_port=local[1],
            connect_time=moment.wall(server.connected_at or moment.now),
            request_time=moment.wall(requested or moment.now),
            close_needed=int(server.close_needed is not None),
            ptr=self._place(server),
            link=self._place(client) if client is not None else "",
            remote_pid=server.pid,
            tls=server.connection.tls.text if server.connection.tls is not None else "",
            application_name=text(server.values[at] or b""),
            prepared_statements=len(server.statements),
            send_avail=server.connection.unsent() if server.connection.made else 0,
        )


class _Moment:
    """One moment on both clocks."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._offset = time.time() - now / SECOND

    def wall(self, monotonic: int) -> float:
        """Wall clock (seconds since 1970) at a time of the monotonic clock (ns)."""
        return self._offset + monotonic / SECOND


def shown(name: str) -> str:
    """A name as text."""
    return text(to_wire(name))
