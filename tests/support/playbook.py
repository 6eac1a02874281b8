"""Tests of sessions as ladders: what clients and servers say, and what the other side gets to hear of it.

    book = Playbook(pool_mode="transaction")
    book.client("Q select 1")
    book.to_server("Q select 1")
    book.server("T", "D 1", "C SELECT 1", "Z I")
    book.to_client("T", "D 1", "C SELECT 1", "Z I")

A message is its tag and a text that fills in what matters of its body; bytes stand for themselves. `p NAME
TEXT` is a Parse with a name, `s NAME` a Describe of a statement. Sessions, pools and servers are the real
ones; transports are lists, there is no loop, and tests move the time.
"""

import random
from collections import Counter
from collections.abc import Callable

from config.settings import Settings
from protocol.errors import ProtocolError
from protocol.looks import frontend_caps
from proxy.audit import Leaks
from proxy.connection import Connection
from proxy.errors import PoolerError, error_response
from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.pool.manager import PoolManager
from proxy.pool.parameters import NOTHING_APPLIED, Applied
from proxy.pool.pool import Pool
from proxy.pool.units import SECOND
from proxy.quarantine import Violation
from proxy.reasons import ClientClosed, ServerClosed
from proxy.server import Server
from proxy.session import Session
from tests.support import messages as m
from tests.support.script import STARTUP_PARAMETERS
from tests.support.transport import ListTransport

Said = str | bytes

_FRONTEND: dict[str, Callable[[str], bytes]] = {
    "Q": m.query,
    "P": lambda text: m.parse("", text),
    "p": lambda text: m.parse(*_named(text)),
    "s": lambda text: m.describe(b"S", text),
    "B": lambda text: m.bind("", text),
    "D": lambda text: m.describe(b"P", text),
    "E": lambda text: m.execute("", int(text or 0)),
    "C": lambda text: m.close(b"S", text),
    "S": lambda _: m.sync(),
    "H": lambda _: m.flush(),
    "X": lambda _: m.terminate(),
    "F": lambda _: m.function_call(2086, [b"x"]),
    "d": lambda text: m.copy_data(text.encode()),
    "c": lambda _: m.copy_done(),
    "f": m.copy_fail,
}
_COPY_FORMAT = b"\0\0\1\0\0"
_BACKEND: dict[str, Callable[[str], bytes]] = {
    "T": lambda text: m.row_description([text or "c0"]),
    "t": lambda _: m.message(b"t", b"\0\0"),
    "D": lambda text: m.data_row([text]),
    "C": m.command_complete,
    "Z": lambda text: m.ready_for_query(text.encode() or b"I"),
    "E": lambda text: m.error_response(*_named(text)),
    "N": lambda text: m.error_response("00000", text, severity="NOTICE", tag=b"N"),
    "A": lambda text: m.message(b"A", m.int32(77) + m.string(text) + m.string("")),
    "S": lambda text: m.parameter_status(*text.split("=", 1)),
    "G": lambda _: m.message(b"G", _COPY_FORMAT),
    "H": lambda _: m.message(b"H", _COPY_FORMAT),
    "d": lambda text: m.copy_data(text.encode()),
    "V": lambda _: m.message(b"V", m.int32(-1)),
    **{tag: (lambda _, tag=tag: m.message(tag.encode())) for tag in "123nIsc"},  # type: ignore[misc]
}


def _named(text: str) -> tuple[str, str]:
    name, _, words = text.partition(" ")
    return name, words


def fatal(code: str, text: str) -> bytes:
    """A FATAL ErrorResponse of a server."""
    return m.error_response(code, text, severity="FATAL")


def from_frontend(*said: Said) -> bytes:
    """Messages of a client as bytes."""
    return b"".join(one if isinstance(one, bytes) else _FRONTEND[one[0]](one[2:]) for one in said)


def from_backend(*said: Said) -> bytes:
    """Messages of a server as bytes."""
    return b"".join(one if isinstance(one, bytes) else _BACKEND[one[0]](one[2:]) for one in said)


class Stage:
    """The client of a session, as far as the session sees it. `ends` holds why it was closed."""

    def __init__(self, book: "Playbook", name: str, number: int) -> None:
        self.id = number
        self.name = name
        self.book = book
        self.connection = Connection(self)
        self.transport = ListTransport()
        self.ends: list[ClientClosed] = []
        self.notices = 0
        self.session: Session
        self.connection.connection_made(self.transport)

    def finish(self, error: PoolerError | ProtocolError | None, reason: ClientClosed) -> None:
        if self.ends:
            return
        self.ends.append(reason)
        if error is not None and not self.session.is_past_telling():
            self.connection.write(error_response(error))
        self.leave()
        self.transport.close()

    def leave(self) -> None:
        self.session.pool.sessions.pop(self.session, None)
        self.session.close(self.book.now)

    def notify_waiting(self) -> None:
        self.notices += 1

    def connected(self) -> None:
        pass

    def writing_paused(self) -> None:
        self.session.client_full()

    def writing_resumed(self) -> None:
        self.session.client_drained()

    def failed(self, error: Exception) -> None:
        if not isinstance(error, ProtocolError):
            raise error
        self.finish(error, ClientClosed.PROTOCOL)

    def lost(self) -> None:
        if not self.ends:
            self.ends.append(ClientClosed.CLIENT_LOST)
        self.leave()


class Playbook:
    """One pool of real servers and sessions; `open` servers are there already, others come with `opens`."""

    def __init__(self, *, open: int = 1, user: str = "alice", **settings: object) -> None:
        settings = {"pool_mode": "transaction", "default_pool_size": open or 1, **settings}
        databases = settings.pop("databases", {"app": {"host": "127.0.0.1"}})
        self.clock: Callable[[], int] = lambda: self.now
        self.settings = Settings.model_validate({"databases": databases, **settings})
        self.now = SECOND
        self.dialled: list[Server] = []
        self.cancels: list[tuple[Server, int]] = []
        self.closed: list[ServerClosed] = []
        self.violations: Counter[Violation] = Counter()
        self.leaks = Leaks()
        self.stages: dict[str, Stage] = {}
        self.manager = PoolManager(self.settings, self, random.Random(1), lambda: self.now)
        self.pool: Pool = self.manager.pool(self.manager.database("app", self.now), user)
        self._numbers = 0
        for _ in range(open):
            self._dial_for_nobody()
            self.opens()

    # What pools and servers ask of the network.

    def dial(self, pool: Pool, host: Host, boot: Applied) -> Server:
        server = Server(len(self.dialled) + 1, pool, host, boot, self)
        self.dialled.append(server)
        return server

    def wake(self, pool: Pool, at: int) -> None:
        pass

    def send_cancel(self, server: Server, generation: int) -> None:
        self.cancels.append((server, generation))

    def count_server_closed(self, reason: ServerClosed) -> None:
        self.closed.append(reason)

    def gone(self) -> None:
        pass

    def _dial_for_nobody(self) -> None:
        pool = self.pool
        assert pool.leases.take(pool.key, reserve=False, since=self.now)
        pool.servers[states.LOGIN][self.dial(pool, Host("127.0.0.1", 5432), NOTHING_APPLIED)] = None
        pool.open += 1

    def opens(self, on: int = 0) -> Server:
        """The login of a server (the latest) has succeeded."""
        server = self.dialled[on - 1]
        tracked = self.pool.tracked
        greeting = {name.encode(): value.encode() for name, value in STARTUP_PARAMETERS.items()}
        server.connection.connection_made(ListTransport())
        server.pid, server.secret = 1000 + server.id, b"key%d" % server.id
        server.connected_at = self.now
        server.expires_at = self.now + 3600 * SECOND
        server.values = tracked.overlay(tracked.overlay(tracked.unknown, greeting), dict(server.boot))
        server.applied = tracked.intern_applied(
            tuple((name, value) for name, value in server.boot if tracked.index(name) < 0)
        )
        self.pool.greeting = self.pool.greeting or greeting
        server.become_idle()
        self.pool.opened(server, self.now)
        return server

    # Who is there.

    def enter(self, name: str, *, applied: Applied = (), boot: Applied = (), **tracked: str) -> Stage:
        """A client logs in; parameters are in the form in which servers report them."""
        self._numbers += 1
        stage = Stage(self, name, self._numbers)
        known = self.pool.tracked
        asked = {key.encode(): value.encode() for key, value in tracked.items()}
        values = known.overlay(known.overlay(known.unknown, self.pool.greeting or {}), asked)
        applied = known.intern_applied(applied)
        caps = frontend_caps(self.settings.max_packet_size)
        stage.session = Session(stage, stage.connection, self.pool, caps, values, applied, boot)
        stage.session.idle_since = self.now
        self.pool.sessions[stage.session] = stage.session
        stage.connection.receiver = stage.session.from_client
        self.stages[name] = stage
        return stage

    def stage(self, by: str = "a") -> Stage:
        """The client of this name, which logs in if it is new."""
        return self.stages.get(by) or self.enter(by)

    def session(self, by: str = "a") -> Session:
        return self.stage(by).session

    def server_at(self, on: int = 1) -> Server:
        """A server by its number, in the order in which they were dialled."""
        return self.dialled[on - 1]

    def wire(self, on: int = 1) -> ListTransport:
        """The transport of a server."""
        transport = self.server_at(on).connection.transport
        assert isinstance(transport, ListTransport)
        return transport

    def state(self, on: int = 1) -> str:
        """The state of a server, or `gone`."""
        server = self.server_at(on)
        held = [state for state, servers in enumerate(self.pool.servers) if server in servers]
        assert held in ([], [server.state])
        return states.SERVER_STATES[server.state] if held else "gone"

    # The ladder.

    def client(self, *said: Said, by: str = "a") -> bytes:
        """A client sends these messages in one chunk; returns the very object that was received."""
        data = from_frontend(*said)
        self.receive(self.stage(by).connection, data)
        return data

    def server(self, *said: Said, on: int = 1) -> bytes:
        """A server sends these messages in one chunk."""
        data = from_backend(*said)
        self.receive(self.server_at(on).connection, data)
        return data

    def to_server(self, *expected: Said, on: int = 1) -> None:
        """Since it was last asked, exactly this was written to the server."""
        written = self.wire(on).take()
        assert written == from_frontend(*expected), written

    def to_client(self, *expected: Said, by: str = "a") -> None:
        """Since it was last asked, exactly this was written to the client."""
        written = self.stage(by).transport.take()
        assert written == from_backend(*expected), written

    def error_to_client(self, code: str, text: str, *, by: str = "a") -> None:
        """The client got exactly one message, an error that ends it."""
        data = self.stage(by).transport.take()
        assert data[:1] == b"E"
        assert int.from_bytes(data[1:5], "big") + 1 == len(data), f"more than one message: {data!r}"
        fields = m.fields_of(data[5:])
        assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", code, text)
        assert self.stage(by).transport.closed

    def receive(self, connection: Connection, data: bytes) -> None:
        """Bytes arrive on a connection."""
        try:
            connection.receiver(data, self.now)
        except ProtocolError as error:
            connection.owner.failed(error)
        self.check()

    def client_leaves(self, by: str = "a") -> None:
        """The connection of a client breaks."""
        _lose(self.stage(by).connection)
        self.check()

    def server_closes(self, on: int = 1) -> None:
        """The connection of a server breaks, or ends as we asked for."""
        _lose(self.server_at(on).connection)
        self.check()

    def cancel(self, by: str = "a") -> None:
        """A cancel request with the key of this client comes."""
        self.session(by).cancel(self.now)
        self.check()

    def cancel_over(self, on: int = 1, *, sent_and_closed: bool = True) -> None:
        """The connection that carried the cancel request to the server is closed."""
        self.server_at(on).cancel_over(sent_and_closed, self.now)
        self.check()

    def check(self) -> None:
        """What holds after every step: each server is in one set, and only ACTIVE ones have a session."""
        pool = self.pool
        for number, server in enumerate(self.dialled, 1):
            active = self.state(number) == "active"
            assert active == (server.session is not None), f"{server!r} {server.session}"
        for stage in self.stages.values():
            session = stage.session
            waits = session in pool.waiting
            assert waits == (session.held is not None and session.server is None), stage.name
            assert not (session.closed and (waits or session.server is not None)), stage.name


def _lose(connection: Connection) -> None:
    """As the loop does it, but what an owner raises is not caught."""
    connection.closed = True
    connection.owner.lost()
