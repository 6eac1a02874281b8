"""Two hundred clients on two servers, with everything that can go wrong at once: no reply ever goes astray.

Each query carries a nonce made up for it, and asks for it back as a value, a
column name, an error, a notice, COPY data or a whole pipeline. Meanwhile
queries time out, are cancelled and abandoned. One foreign nonce is a failure.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import entry, howdah_only
from tests.support.wire import Raw

CLIENTS, SECONDS, SEED = 200, 12.0, 20240229
CROWDED = "crowded"

EXPECTED_ERRORS = {"57014", "08P01", "08006", "22012", "P0001", "57P01"}
"""Query cancelled or timed out, server given up, and the errors the queries themselves ask for."""


@dataclass
class Tally:
    """What all clients together have seen."""

    answered: int = 0
    logins: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str) -> None:
        with self.lock:
            self.answered += 1
            self.kinds[kind] = self.kinds.get(kind, 0) + 1

    def problem(self, text: str) -> None:
        with self.lock:
            self.problems.append(text)


QUERIES = {
    "value": "select '{0}' as \"{0}\"",
    "error": "do $$ begin raise exception '{0}'; end $$",
    "notice": "do $$ begin raise notice '{0}'; end $$",
    "copy": "copy (select '{0}' from generate_series(1, 50)) to stdout",
    "large": "select '{0}', repeat('{0}', 2000)",
    "parameter": "select '{0}' where starts_with('{0}', current_setting('application_name') || '_')",
    "slow": "select '{0}', pg_sleep(0.02)",
    "too slow": "select '{0}', pg_sleep(1)",
}
"""Simple queries that bring the nonce back in different ways."""


def request(kind: str, nonce: str) -> tuple[bytes, int]:
    """The bytes that ask for the nonce back in this way, and how many ReadyForQuery they earn."""
    match kind:
        case "extended":
            return m.one_shot(f'select $1::text as "{nonce}"', [nonce]), 1
        case "pipeline":
            return b"".join(m.one_shot("select $1::text", [nonce]) for _ in range(10)), 10
        case "broken pipeline":
            half = m.one_shot(f"select '{nonce}'") + m.parse("", "select 1/0") + m.bind() + m.execute()
            return half + m.query("select 'never'") + m.sync() + m.one_shot(f"select '{nonce}'"), 3
        case "transaction":
            parts = ["begin", f"select '{nonce}'", f"select '{nonce}'", "commit"]
            return b"".join(m.query(sql) for sql in parts), 4
        case _:
            return m.query(QUERIES[kind].format(nonce)), 1


KINDS = [*["value", "extended"] * 4, *QUERIES, "pipeline", "broken pipeline", "transaction"]
KINDS.remove("too slow")
TOO_SLOW = 0.004
"""How often a query exceeds query_timeout: seldom, or waiting for the servers would be all that happens."""


def carried(message: m.Message) -> list[str]:
    """The places of a message in which a nonce may stand."""
    match message.tag:
        case b"D":
            return [value for value in m.row_of(message.body) if value]
        case b"T":
            return [name for name in m.column_names(message.body) if name.startswith("n_")]
        case b"d":
            return message.body.decode().splitlines()
        case b"E" | b"N":
            text = m.fields_of(message.body)["M"]
            return [text] if text.startswith("n_") else []
    return []


def foreign(messages: list[m.Message], nonce: str) -> list[str]:
    """What is carried that is not the nonce, or a repetition of it."""
    found = [text for message in messages for text in carried(message)]
    return [text for text in found if text.replace(nonce, "")]


class Client:
    """One of the crowd: asks at random, and now and then is impatient or rude."""

    def __init__(self, number: int, pooler: Pooler, tally: Tally) -> None:
        self.number, self.pooler, self.tally = number, pooler, tally
        self.random = random.Random(SEED * 1000 + number)
        self.asked = 0

    def run(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            try:
                name = {"application_name": f"n_{self.number}"}
                with self.pooler.raw(CROWDED, parameters=name, timeout=30) as raw:
                    self.tally.logins += 1
                    while time.monotonic() < deadline and self.step(raw):
                        pass
            except Exception as error:
                self.tally.problem(f"client {self.number}: {error!r}")
                return

    def step(self, raw: Raw) -> bool:
        """One request; False when the connection has ended, as was to be expected."""
        kind = "too slow" if self.random.random() < TOO_SLOW else self.random.choice(KINDS)
        self.asked += 1
        nonce = f"n_{self.number}_{self.asked}_"
        data, ready = request(kind, nonce)
        raw.send(data)
        rudeness = self.random.random()
        if rudeness < 0.03:
            time.sleep(self.random.random() * 0.02)
            raw.reset()
            return False
        if rudeness < 0.08:
            threading.Thread(target=self.cancel, args=(raw.greeting.pid, raw.greeting.secret)).start()
        return self.receive(raw, kind, nonce, ready)

    def cancel(self, pid: int, secret: bytes) -> None:
        with contextlib.suppress(OSError), self.pooler.socket() as raw:
            raw.send(m.cancel_request(pid, secret))
            raw.closed_within(10)

    def receive(self, raw: Raw, kind: str, nonce: str, ready: int) -> bool:
        got: list[m.Message] = []
        try:
            while ready:
                got.append(raw.message())
                ready -= got[-1].tag == b"Z"
        except (EOFError, ConnectionError):
            fatal = [fields for fields in m.errors(got) if fields["S"] == "FATAL"]
            if len(fatal) != 1:
                self.tally.problem(f"client {self.number}: {kind} ended with {m.errors(got)}")
        strange = foreign(got, nonce)
        if strange:
            self.tally.problem(f"client {self.number}: {kind} {nonce} got {strange}")
        if kind == "parameter" and not m.errors(got) and not m.rows(got):
            self.tally.problem(f"client {self.number}: somebody else's application_name")
        surprising = {fields["C"] for fields in m.errors(got)} - EXPECTED_ERRORS
        if surprising:
            self.tally.problem(f"client {self.number}: {kind} got {surprising}")
        self.tally.count(kind)
        return ready == 0


def crowd(pooler: Pooler, seconds: float, disturb: Callable[[], None] | None = None) -> Tally:
    """Lets the clients loose; `disturb` is called again and again meanwhile."""
    tally, deadline = Tally(), time.monotonic() + seconds
    clients = [Client(number, pooler, tally) for number in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(deadline,)) for client in clients]
    for thread in threads:
        thread.start()
    while disturb is not None and time.monotonic() < deadline:
        disturb()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    print(tally.answered, "requests,", tally.logins, "logins,", tally.kinds)
    assert tally.problems == []
    assert tally.answered > CLIENTS
    assert set(tally.kinds) == {*KINDS, "too slow"}
    return tally


def check_quiet(pooler: Pooler, server: Server) -> None:
    """Nothing is left behind, and the pool works."""
    server.wait_until_quiet(5.0)
    with pooler.raw(CROWDED) as raw:
        assert raw.value("select 'clean'") == "clean"
    assert len(pooler.show("SERVERS", database=CROWDED)) <= 2


SETTINGS = {"query_timeout": 0.5, "log_connections": 0, "log_disconnections": 0}


@pytest.mark.slow
@pytest.mark.timeout(100)
def test_every_reply_carries_the_askers_own_nonce(launch: Launch, server: Server) -> None:
    pooler = launch({CROWDED: entry(server, pool_size=2)}, SETTINGS)
    crowd(pooler, SECONDS)
    check_quiet(pooler, server)


@howdah_only("PgBouncer adds an error of its own to that of a terminated server")
@pytest.mark.slow
@pytest.mark.timeout(100)
def test_also_while_servers_come_and_go(launch: Launch, server: Server) -> None:
    """Servers are terminated, replaced and paused, settings reloaded, all the time."""
    pooler = launch({CROWDED: entry(server, pool_size=2)}, SETTINGS)
    random_ = random.Random(SEED)

    def disturb() -> None:
        time.sleep(random_.random() * 0.1)
        match random_.randrange(5):
            case 0 | 1:
                server.sql("select pg_terminate_backend(%s)", [random_.choice([*servers(), 0])])
            case 2:
                pooler.admin("RECONNECT")
            case 3:
                pooler.admin("RELOAD")
            case _:
                pooler.admin("PAUSE")
                pooler.admin("RESUME")

    def servers() -> list[int]:
        return server.backends(pooler.user)

    crowd(pooler, SECONDS / 2, disturb)
    check_quiet(pooler, server)
