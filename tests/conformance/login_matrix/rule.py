"""The cells of the matrix, and the rule that says what comes of each.

The rule, in words. The client is let in if the method asks for nothing, or it has what the method asks for
and the stored secret can be checked that way: a password checks any form; MD5 cannot be checked by a SCRAM
verifier, for which auth_type md5 turns to SCRAM; SCRAM cannot be checked by an MD5 hash. The server lets us
in if it asks for nothing, or we have what it asks for: a plain secret serves whatever it asks for, but goes
in clear text only under TLS; an MD5 hash serves MD5; a verifier serves nothing, but the keys that a client's
own password or SCRAM proof shows serve SCRAM. Channel binding needs TLS.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

Pair = tuple[tuple[int, object], tuple[int, object]]


class Client(Enum):
    """How a client proves who it is."""

    TRUST = "trust"
    PLAIN = "plain"
    MD5 = "md5"
    SCRAM = "scram-sha-256"
    PLUS = "scram-sha-256-plus"
    CERT = "cert"


class Form(Enum):
    """Where the pooler has the secret from, and how it is stored there."""

    PLAIN = "plain"
    MD5 = "md5"
    VERIFIER = "verifier"
    QUERY = "query"
    FORCED = "forced"


class Server(Enum):
    """How PostgreSQL asks."""

    TRUST = "trust"
    PASSWORD = "password"
    MD5 = "md5"
    SCRAM = "scram-sha-256"
    PLUS = "scram-sha-256-plus"


class Driver(Enum):
    PSYCOPG = "psycopg"
    ASYNCPG = "asyncpg"


class Outcome(Enum):
    """In, or turned away: by the pooler, or because PostgreSQL would not have us."""

    IN = "in"
    NOT_BELIEVED = "the client is not believed"
    NO_SERVER = "the server cannot be logged in to"


@dataclass(frozen=True)
class Cell:
    """One login. `right`: whether the client has the right password, or certificate."""

    client: Client
    form: Form
    server: Server
    tls: bool
    right: bool
    driver: Driver

    def __str__(self) -> str:
        parts = (self.client.value, self.form.value, self.server.value, "tls" if self.tls else "clear")
        return "/".join((*parts, "right" if self.right else "wrong", self.driver.value))

    @property
    def stored(self) -> Form:
        """How PostgreSQL keeps the password of the role."""
        return Form.MD5 if self.server is Server.MD5 else Form.VERIFIER

    @property
    def checked(self) -> Form:
        """What the pooler checks the client by; before a forced user, a plain secret of its own."""
        return {Form.QUERY: self.stored, Form.FORCED: Form.PLAIN}.get(self.form, self.form)


def cells() -> Iterator[Cell]:
    """All there can be: channel binding and certificates need TLS, and asyncpg does not bind channels."""
    sides = itertools.product(Client, Form, Server, (False, True), (True, False), Driver)
    for cell in itertools.starmap(Cell, sides):
        if not cell.tls and cell.client in (Client.PLUS, Client.CERT):
            continue
        if cell.driver is Driver.ASYNCPG and cell.client is Client.PLUS:
            continue
        yield cell


def expected(cell: Cell) -> Outcome:
    """What comes of it, by the rule above."""
    if not _believed(cell):
        return Outcome.NOT_BELIEVED
    return Outcome.IN if _let_in(cell) else Outcome.NO_SERVER


def _believed(cell: Cell) -> bool:
    if cell.client is Client.TRUST:
        return True
    if cell.client in (Client.SCRAM, Client.PLUS) and cell.checked is Form.MD5:
        return False
    return cell.right


def _let_in(cell: Cell) -> bool:
    if cell.server is Server.TRUST:
        return True
    if cell.server is Server.PLUS and not cell.tls:
        return False
    if cell.form in (Form.PLAIN, Form.FORCED):
        return cell.tls or cell.server is not Server.PASSWORD
    if cell.server is Server.PASSWORD:
        return False
    if cell.server is Server.MD5:
        return cell.checked is Form.MD5
    return cell.checked is Form.VERIFIER and cell.client not in (Client.TRUST, Client.CERT)


def paired(every: Iterable[Cell]) -> list[Cell]:
    """A few cells in which each value meets each value of another dimension, as far as any cell has both."""
    left = {cell: _pairs(cell) for cell in every}
    open_pairs = frozenset[Pair]().union(*left.values())
    chosen = []
    while open_pairs:
        best = max(left, key=lambda cell: len(left[cell] & open_pairs))
        chosen.append(best)
        open_pairs -= left.pop(best)
    return chosen


def _pairs(cell: Cell) -> frozenset[Pair]:
    # The outcome is a dimension, too: each method must be seen to let in and to turn away.
    values = (cell.client, cell.form, cell.server, cell.tls, cell.right, cell.driver, expected(cell))
    return frozenset(itertools.combinations(enumerate(values), 2))
