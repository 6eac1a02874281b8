"""Random clients prepare the same texts under the same names on two servers: each has its own."""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.proxy.test_session_random import ZONES, Author, play
from tests.support.named_model import NamedBackend
from tests.support.playbook import Playbook, Said

NAMES = ("a", "b", "howdah_1")


class NamingAuthor(Author):
    """Writes what a client says that likes names."""

    def __init__(self, name: str, chance: random.Random) -> None:
        super().__init__(name, chance)
        self._own = name
        self._luck = chance

    def script(self, groups: int) -> bytes:
        return super().script(groups * 2)

    def _text(self) -> str:
        shared = [f"text {number}" for number in range(4)]
        return self._luck.choice((*shared, *shared, self._own, "rollback", "bad"))

    def _message(self) -> list[Said]:
        name = self._luck.choice(NAMES)
        messages: list[list[Said]] = [
            [f"p {name} {self._text()}"],
            [f"p {name} {self._text()}", f"B {name}", "E"],
            [f"B {name}", "E"],
            [f"B {name}", "D", "E"],
            [f"s {name}"],
            [f"C {name}"],
            [f"C {name}", f"p {name} {self._text()}"],
            [f"P {self._text()}", "B", "E"],
            [f"P {self._text()}"],
            ["B", "E"],
            ["s "],
            ["C "],
            ["H"],
            ["E"],
        ]
        return self._luck.choice(messages)

    def _group(self) -> Iterator[Said]:
        for _ in range(self._luck.randrange(5)):
            yield from self._message()
        yield "S"

    def _copy(self) -> Iterator[Said]:
        """What does away with names, in the place of COPY."""
        # A name like ours in SQL would be one of ours.
        name = self._luck.choice((*NAMES[:2], "all"))
        yield from self._luck.choice(
            (
                [f"Q deallocate {name}"],
                [f"P deallocate {name}", "B", "E", "S", "C ", "S"],
                ["Q discard all"],
                [f"Q zone {self._luck.choice(ZONES)}"],
                ["Q begin"],
                ["Q begin", "Q fail"],
                ["Q commit"],
            )
        )

    def _flushed(self) -> Iterator[Said]:
        yield from self._message()
        yield "H"
        yield from self._message()
        yield "S"


def check_books(book: Playbook) -> None:
    """Names are counted once, and sizes are those of what there is."""
    texts = book.pool.statements
    sessions = [stage.session for stage in book.stages.values() if not stage.ends]
    names = [name for session in sessions if session.prepared for name in session.prepared.names.values()]
    wanted = Counter(name.statement for name in names)
    for text in texts.statements.values():
        assert text.clients == wanted[text]
    assert texts.size == sum(text.size for text in texts.statements.values())
    for server in book.dialled:
        there = server.statements
        assert there.size == sum(text.size for text in there.prepared)
        assert all(kept.statement is text for text, kept in there.prepared.items())
        if server.session is None:
            assert not there.pending


@pytest.mark.parametrize("seed", range(200))
def test_every_client_has_its_own_names(seed: int) -> None:
    check_books(play(seed, clients=4, servers=2, author=NamingAuthor, backend=NamedBackend))


@pytest.mark.parametrize("seed", range(1000, 1100))
def test_on_a_server_with_room_for_two_statements_too(seed: int) -> None:
    limits: dict[str, Any] = {"max_prepared_statements": 2}
    check_books(play(seed, clients=3, servers=1, author=NamingAuthor, backend=NamedBackend, **limits))


@pytest.mark.parametrize("seed", range(2000, 2030))
def test_where_names_are_passed_through_too(seed: int) -> None:
    play(seed, clients=2, servers=2, mode="session", author=NamingAuthor, backend=NamedBackend)
