"""What a transaction costs inside the process: client and server connections over transports that only count.

`python -m tests.bench.micro` prints nanoseconds (of the best run, the one disturbed least), calls of Python
functions and writes per transaction. No sockets, no loop: only framing, bookkeeping, lending and giving back.
Calls and writes are exact and the same on every machine.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Final

from config.databases import DatabaseSettings
from config.settings import Settings
from config.types import PoolMode
from protocol import tags
from protocol.errors import ProtocolError
from protocol.looks import frontend_caps
from protocol.wire import message
from proxy.audit import Leaks
from proxy.connection import Connection
from proxy.errors import PoolerError
from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.pool.manager import PoolManager
from proxy.pool.parameters import Applied
from proxy.pool.pool import Pool
from proxy.quarantine import Violation
from proxy.reasons import ClientClosed, ServerClosed
from proxy.server import Server
from proxy.session import Session

# PostgreSQL sends what it has whenever this many bytes have come together (PQ_SEND_BUFFER_SIZE).
_SERVER_CHUNK: Final = 8192
_FOREVER: Final = 1 << 62
# Transactions whose calls are counted beyond the first, which is not like the others when clients wait.
_MORE: Final = 10


class CountingTransport(asyncio.Transport):
    """Takes everything at once and keeps the number of writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.last: object = b""

    def write(self, data: object) -> None:
        self.writes += 1
        self.last = data

    def writelines(self, list_of_data: Iterable[object]) -> None:
        self.writes += 1
        self.last = list_of_data

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Nobody reads what was written."""


class Neighbours:
    """Everybody around a session and a server who has nothing to do here; a failure is kept in `problem`."""

    id = 1

    def __init__(self) -> None:
        self.clock: Callable[[], int] = time.perf_counter_ns
        self.problem: object = None
        self.dialled: list[Server] = []
        self.violations: Counter[Violation] = Counter()
        self.leaks = Leaks()

    def connected(self) -> None:
        """The client's connection has a transport."""

    def writing_paused(self) -> None:
        """Cannot happen: the transport takes everything."""

    def writing_resumed(self) -> None:
        """Cannot happen."""

    def lost(self) -> None:
        """Cannot happen."""

    def failed(self, error: Exception) -> None:
        """A receiver of the client's connection raised."""
        self.problem = error

    def finish(self, error: PoolerError | ProtocolError | None, reason: ClientClosed) -> None:
        """The session ends its client."""
        self.problem = error or reason

    def notify_waiting(self) -> None:
        """Nobody waits long."""

    def dial(self, pool: Pool, host: Host, boot: Applied) -> Server:
        """A server that is connected and will say that it has logged in when it is asked to."""
        server = Server(len(self.dialled), pool, host, boot, self)
        server.connection.connection_made(CountingTransport())
        server.expires_at = _FOREVER
        self.dialled.append(server)
        return server

    def wake(self, pool: Pool, at: int) -> None:
        """No host fails."""

    def send_cancel(self, server: Server, generation: int) -> None:
        """Nobody cancels."""

    def gone(self) -> None:
        """No server goes."""

    def count_server_closed(self, reason: ServerClosed) -> None:
        """A server closes only when something went wrong."""
        self.problem = reason


@dataclass(frozen=True, slots=True)
class Exchange:
    """One transaction: what the client sends and what PostgreSQL answers, in chunks as from a socket.

    `waiting`: there is no server for it at once, as when there are more clients than servers. `before`: what
    has to be done once by whoever wants to do it. `idle`: so many other clients do nothing.
    """

    name: str
    request: tuple[bytes, ...]
    reply: tuple[bytes, ...]
    waiting: bool = False
    before: "Exchange | None" = None
    idle: int = 0


def chunks(data: bytes, size: int = _SERVER_CHUNK) -> tuple[bytes, ...]:
    """Cut a stream as a socket would."""
    return tuple(data[start : start + size] for start in range(0, len(data), size))


def _use_of(name: bytes) -> bytes:
    """What uses a statement, to its Sync."""
    bind = message(tags.BIND, b"\0" + name + b"\0" + bytes(6))
    return b"".join(
        (bind, message(tags.DESCRIBE, b"P\0"), message(tags.EXECUTE, bytes(5)), message(tags.SYNC, b""))
    )


def exchanges() -> list[Exchange]:
    """The transactions that are measured."""
    columns = message(tags.ROW_DESCRIPTION, b"\0\1abalance\0" + bytes(18))
    row = message(tags.DATA_ROW, b"\0\1\0\0\0\1" + b"7")
    done = message(tags.COMMAND_COMPLETE, b"SELECT 1\0")
    ready = message(tags.READY_FOR_QUERY, b"I")
    text = b"SELECT abalance FROM pgbench_accounts WHERE aid = 4711;\0"
    batch = message(tags.PARSE, b"\0" + text + b"\0\0") + _use_of(b"")
    parsed, bound = message(tags.PARSE_COMPLETE, b""), message(tags.BIND_COMPLETE, b"")
    # The pooler asks what a new statement looks like.
    described = message(tags.PARAMETER_DESCRIPTION, bytes(2))
    parse = message(tags.PARSE, b"S_1\0" + text + b"\0\0") + message(tags.SYNC, b"")
    query = message(tags.QUERY, text)
    numbers = b"".join(message(tags.DATA_ROW, b"\0\1\0\0\0\4%04d" % number) for number in range(5000))
    return [
        Exchange("simple", (query,), (columns + row + done + ready,)),
        Exchange("simple, waits", (query,), (columns + row + done + ready,), waiting=True),
        Exchange("simple, crowd", (query,), (columns + row + done + ready,), idle=10_000),
        Exchange("extended", (batch,), (parsed + bound + columns + row + done + ready,)),
        Exchange(
            "prepared",
            (_use_of(b"S_1"),),
            (bound + columns + row + done + ready,),
            before=Exchange("prepare", (parse,), (parsed + described + columns + ready,)),
        ),
        Exchange("5,000 rows", (query,), chunks(columns + numbers + done + ready)),
    ]


class World:
    """Two clients with their sessions, and one server in a pool of one, in transaction mode."""

    def __init__(self) -> None:
        self.neighbours = Neighbours()
        settings = Settings(
            databases={"app": DatabaseSettings(host="127.0.0.1")},
            credentials={},
            pool_mode=PoolMode.TRANSACTION,
            default_pool_size=1,
        )
        manager = PoolManager(settings, self.neighbours, random.Random(1), self.neighbours.clock)
        now = self.neighbours.clock()
        self.pool = manager.pool(manager.database("app", now), "alice")
        self.clients = [self.client() for _ in range(2)]
        # The first request has the pool dial its server; the server's login is not what is measured here.
        self.clients[0].data_received(message(tags.QUERY, b"\0"))
        (self.server,) = self.neighbours.dialled
        self.server.become_idle()
        self.pool.opened(self.server, now)
        self.server.connection.data_received(
            message(tags.EMPTY_QUERY_RESPONSE, b"") + message(tags.READY_FOR_QUERY, b"I")
        )
        self.check()

    def client(self) -> Connection:
        """One more, logged in."""
        client = Connection(self.neighbours)
        client.connection_made(CountingTransport())
        session = Session(self.neighbours, client, self.pool, frontend_caps(), self.pool.tracked.unknown)
        client.receiver = session.from_client
        return client

    def run(self, exchange: Exchange, count: int) -> None:
        """Do the transaction `count` times: with a server at once, or after waiting for the other client."""
        if exchange.waiting:
            self._run_in_turns(exchange, count)
            return
        from_client = self.clients[0].data_received
        from_server = self.server.connection.data_received
        for _ in range(count):
            for chunk in exchange.request:
                from_client(chunk)
            for chunk in exchange.reply:
                from_server(chunk)

    def _run_in_turns(self, exchange: Exchange, count: int) -> None:
        """Whoever has been answered asks again at once, while the other's request has the server."""
        busy, other = (client.data_received for client in self.clients[:2])
        from_server = self.server.connection.data_received
        for chunk in exchange.request:
            busy(chunk)
        for number in range(count):
            if number < count - 1:
                for chunk in exchange.request:
                    other(chunk)
            for chunk in exchange.reply:
                from_server(chunk)
            busy, other = other, busy

    def writes(self) -> int:
        """Writes to all sides so far."""
        return sum(_counting(connection).writes for connection in (*self.clients, self.server.connection))

    def check(self) -> None:
        """Raise RuntimeError unless the server has come back to the pool and nobody failed."""
        if self.neighbours.problem is not None or self.server.state != states.IDLE:
            raise RuntimeError(f"the exchange went wrong: {self.neighbours.problem!r}, {self.server!r}")


def _counting(connection: Connection) -> CountingTransport:
    assert isinstance(connection.transport, CountingTransport)
    return connection.transport


def ready(exchange: Exchange) -> World:
    """A world in which this has been done often enough to be done as always."""
    world = World()
    world.clients += [world.client() for _ in range(exchange.idle)]
    if exchange.before is not None:
        world.run(exchange.before, 1)
    world.run(exchange, 60)
    world.check()
    return world


@dataclass(frozen=True, slots=True)
class Counts:
    """Calls of Python functions by name and writes of one transaction."""

    calls: Counter[str]
    writes: int


def counts(exchange: Exchange) -> Counts:
    """Count one exchange; exact."""
    world = ready(exchange)
    first, more = _counted(world, exchange, 1), _counted(world, exchange, 1 + _MORE)
    more.subtract(first)
    calls = Counter({name: count // _MORE for name, count in more.items() if count >= _MORE})
    return Counts(calls, calls.pop("writes"))


def nanoseconds(exchange: Exchange, *, runs: int = 7, seconds: float = 0.1) -> float:
    """Time one exchange: `runs` times about `seconds` each, the best counts."""
    world = ready(exchange)
    count = max(1, int(seconds / _timed(world, exchange, 10)))
    best = min(_timed(world, exchange, count) for _ in range(runs))
    world.check()
    return best * 1e9


def _counted(world: World, exchange: Exchange, count: int) -> Counter[str]:
    """Calls and writes of so many transactions."""
    before = world.writes()
    calls = count_calls(partial(world.run, exchange, count))
    world.check()
    return calls + Counter(writes=world.writes() - before)


def _timed(world: World, exchange: Exchange, count: int) -> float:
    began = time.perf_counter()
    world.run(exchange, count)
    return (time.perf_counter() - began) / count


def count_calls(work: Callable[[], None]) -> Counter[str]:
    """Python functions the work calls, by name; `work` itself and built-in functions are not counted."""
    names: list[str] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        # What stands in brackets is called in some versions of Python and not in others.
        if event == "call" and not frame.f_code.co_name.endswith("comp>"):
            names.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return Counter(names[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per exchange."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.micro", description=__doc__)
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="timed runs of each (default 7)")
    parser.add_argument("--calls", action="store_true", help="name the functions that are called")
    options = parser.parse_args(arguments)
    print(f"{'transaction':14} {'ns':>10} {'calls':>6} {'writes':>6}")
    for exchange in exchanges():
        spent, time_ = counts(exchange), nanoseconds(exchange, runs=options.runs)
        print(f"{exchange.name:14} {time_:10,.0f} {spent.calls.total():6} {spent.writes:6}")
        if options.calls:
            print("".join(f"  {count:4} {name}\n" for name, count in spent.calls.most_common()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
