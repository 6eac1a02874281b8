"""Random clients on random servers, cut and interleaved at random: each gets what PostgreSQL would say."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.pool import states
from tests.support.model import Backend
from tests.support.playbook import Playbook, Said, from_frontend

AMBIGUOUS = b"COPY failed among Syncs"
"""Where a client sends Syncs along with COPY data, whether they count depends on where the COPY failed."""
ZONES = ("UTC", "Asia/Tokyo", "Europe/Rome")
COPY_DATA = ("d one", "d two", "d bad", "d " + "x" * 300)


class Author:
    """Writes what one client says. Names are in every query, so that foreign replies would be seen."""

    def __init__(self, name: str, chance: random.Random) -> None:
        self._name = name
        self._chance = chance
        self._number = 0

    def script(self, groups: int) -> bytes:
        said: list[Said] = []
        for _ in range(groups):
            said += self._chance.choice(
                (self._simple, self._simple, self._group, self._group, self._copy, self._flushed, self._odd)
            )()
        # Whatever was left open is closed, so that the servers can go back.
        return from_frontend(*said, "c", "S", "Q rollback")

    def _query(self) -> str:
        self._number += 1
        words = ("begin", "commit", "rollback", "fail", f"zone {self._chance.choice(ZONES)}")
        return self._chance.choice((*words, *[f"{self._name} {self._number}"] * 6))

    def _simple(self) -> Iterator[Said]:
        queries = [self._query() for _ in range(self._chance.choice((1, 1, 1, 3)))]
        yield "Q " + ";".join(queries)

    def _portal(self) -> list[Said]:
        query = self._query() if self._chance.random() < 0.9 else "bad"
        return [f"P {query}", "B", *(["D"] if self._chance.random() < 0.5 else []), "E"]

    def _group(self) -> Iterator[Said]:
        for _ in range(self._chance.randrange(4)):
            yield from self._portal()
        if self._chance.random() < 0.2:
            yield "C"
        yield "S"

    def _flushed(self) -> Iterator[Said]:
        yield from self._portal()
        yield "H"
        if self._chance.random() < 0.3:
            yield f"Q {self._name} in between"
        yield from self._portal()
        yield "S"

    def _copy(self) -> Iterator[Said]:
        begin = ["P copy", "B", "E"]
        how = self._chance.choice((["Q copy"], begin, [*begin, "H"], [*begin, "S"]))
        yield from how
        for _ in range(self._chance.randrange(4)):
            yield self._chance.choice(COPY_DATA)
        yield self._chance.choice(("c", "c", "f no"))
        if len(how) > 1:
            yield "S"

    def _odd(self) -> Iterator[Said]:
        """What is allowed and hardly anybody does."""
        yield self._chance.choice(("F", "H", "d stray", "c", "S", f"Q {self._name} " + "y" * 20_000))


class Guest:
    """One client: what it has still to say, what it must hear in the end, what it has heard."""

    def __init__(
        self,
        book: Playbook,
        name: str,
        chance: random.Random,
        author: type[Author],
        backend: type[Backend],
    ) -> None:
        self.name = name
        self.zone = chance.choice(ZONES)
        self.script = author(name, chance).script(chance.randrange(1, 7))
        self.expected = backend(self.zone).feed(self.script)
        self.heard = b""
        self.leaves_at = len(self.script) * 2 if chance.random() < 0.8 else chance.randrange(len(self.script))
        self.said = 0
        self.stage = book.enter(name, timezone=self.zone)

    @property
    def gone(self) -> bool:
        return bool(self.stage.ends)

    @property
    def can_speak(self) -> bool:
        return not self.gone and self.stage.transport.reading and self.said < len(self.script)

    def listen(self) -> None:
        self.heard += self.stage.transport.take()
        if self.gone and AMBIGUOUS in self.heard:
            # All that it got before is still held against what PostgreSQL says.
            self.heard = self.heard[: self.heard.rindex(b"E", 0, self.heard.index(b"SFATAL"))]


class Cluster:
    """The servers behind a playbook, each with what it has still to say."""

    def __init__(self, book: Playbook, chance: random.Random, backend: type[Backend]) -> None:
        self._book = book
        self._chance = chance
        self._model = backend
        self._backends: dict[int, Backend] = {}
        self._unsent: dict[int, bytes] = {}

    def busy(self) -> list[int]:
        """Servers that have something to do or to say."""
        numbers = range(1, len(self._book.dialled) + 1)
        return [on for on in numbers if self._book.state(on) != "gone" and self._work(on)]

    def _work(self, on: int) -> bool:
        server = self._book.server_at(on)
        if server.state == states.LOGIN:
            return True
        wire = self._book.wire(on)
        self._unsent[on] = self._unsent.get(on, b"") + self._backend(on).feed(wire.take())
        return bool(self._unsent[on] and wire.reading) or wire.ended

    def _backend(self, on: int) -> Backend:
        return self._backends.setdefault(on, self._model())

    def step(self, on: int) -> None:
        server = self._book.server_at(on)
        if server.state == states.LOGIN:
            self._book.opens(on)
        elif self._unsent[on] and self._book.wire(on).reading:
            cut = self._chance.choice((1, 5, 30, 10_000))
            data, self._unsent[on] = self._unsent[on][:cut], self._unsent[on][cut:]
            self._book.server(data, on=on)
        else:
            self._book.server_closes(on)


def play(
    seed: int,
    *,
    clients: int,
    servers: int,
    mode: str = "transaction",
    author: type[Author] = Author,
    backend: type[Backend] = Backend,
    **settings: Any,
) -> Playbook:
    chance = random.Random(seed)
    book = Playbook(open=servers, pool_mode=mode, server_reset_query="", **settings)
    cluster = Cluster(book, chance, backend)
    guests = [Guest(book, f"guest{number}", chance, author, backend) for number in range(clients)]
    while True:
        speakers = [guest for guest in guests if guest.can_speak]
        busy = cluster.busy()
        cancelled = [server for server, _ in book.cancels if server.cancels]
        if not (speakers or busy or cancelled):
            break
        kind = chance.choice(
            ["speak"] * bool(speakers) + ["serve"] * bool(busy) + ["cancel"] * bool(cancelled)
        )
        if kind == "speak":
            speak(book, chance.choice(speakers), chance)
        elif kind == "serve":
            cluster.step(chance.choice(busy))
        else:
            server = chance.choice(cancelled)
            book.cancel_over(server.id)
        for guest in guests:
            guest.listen()
            assert guest.expected.startswith(guest.heard), f"seed {seed}, {guest.name}"
    for guest in guests:
        assert guest.gone or guest.heard == guest.expected, f"seed {seed}, {guest.name}"
    assert not book.pool.waiting
    if mode == "transaction":
        assert not book.pool.servers[states.ACTIVE]
    assert book.pool.open <= servers
    return book


def speak(book: Playbook, guest: Guest, chance: random.Random) -> None:
    cut = chance.choice((1, 3, 17, 200, 100_000))
    chunk = guest.script[guest.said : guest.said + cut]
    guest.said += len(chunk)
    book.client(chunk, by=guest.name)
    if guest.said > guest.leaves_at and not guest.gone:
        if chance.random() < 0.5:
            book.client_leaves(guest.name)
        elif guest.said == len(guest.script):
            book.client("X", by=guest.name)


@pytest.mark.parametrize("seed", range(150))
def test_in_transaction_mode_everybody_gets_what_they_asked_for(seed: int) -> None:
    play(seed, clients=4, servers=2, mode="transaction")


@pytest.mark.parametrize("seed", range(1000, 1050))
def test_on_a_single_server_everybody_gets_what_they_asked_for(seed: int) -> None:
    play(seed, clients=3, servers=1, mode="transaction")


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_in_session_mode_everybody_gets_what_they_asked_for(seed: int) -> None:
    play(seed, clients=2, servers=2, mode="session")
