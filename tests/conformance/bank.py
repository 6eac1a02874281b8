"""A bank: money moves between accounts, and whatever dies, none is made or lost and nothing is done twice.

Law: what a client was told is written down before it goes on. COMMITTED must be in the ledger once, FAILED
never, and what nobody was told of at most once. It has no unique key: a duplicate is to be seen.
"""

import asyncio
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.conformance.nonce_client import Hung, NonceClient, Refused, Reply
from tests.support import messages as m
from tests.support.server import Server

ACCOUNTS: Final = 1000
BALANCE: Final = 1000
PATIENCE: Final = 30.0
_TABLES: Final = (
    "create table acct (id int primary key, bal bigint)",
    "create table led (n bigserial, tx uuid, src int, dst int, amt int, cli int, seq int)",
    f"insert into acct select id, {BALANCE} from generate_series(1, {ACCOUNTS}) id",
)
_RETRY: Final = 0.05


class Fate(Enum):
    """What a client knows of a transfer."""

    COMMITTED = "committed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Transfer:
    tx: str
    source: int
    target: int
    amount: int
    client: int
    number: int


@dataclass
class Journal:
    """Every transfer that was begun, and its fate."""

    fates: dict[Transfer, Fate] = field(default_factory=dict)
    logins: int = 0
    problems: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {fate.value: count for fate, count in Counter(self.fates.values()).items()}


class Ended(Exception):
    """The connection, or the transfer, came to nothing; the text says how."""


class Teller:
    """A client of the bank, over many connections. Even ones ask by the extended protocol, in a pipeline."""

    def __init__(
        self, number: int, address: tuple[str, int], login: dict[str, str], journal: Journal
    ) -> None:
        self._number, self._address, self._login = number, address, login
        self._journal = journal
        self._dice = random.Random(number)
        self._count = 0

    async def live(self, over: asyncio.Event) -> None:
        """Transfer money until it is over."""
        while not over.is_set():
            try:
                client = await NonceClient.open(self._address, self._login, PATIENCE)
            except Hung as error:
                self._journal.problems.append(f"teller {self._number} cannot log in: {error}")
                return
            except (OSError, Refused):
                await asyncio.sleep(_RETRY)
                continue
            self._journal.logins += 1
            try:
                while not over.is_set():
                    await self._transfer(client)
                client.close()
            except Ended:
                client.reset()
            except Hung as error:
                self._journal.problems.append(f"teller {self._number}: {error}")
                client.reset()

    async def _transfer(self, client: NonceClient) -> None:
        self._count += 1
        source, target = self._dice.sample(range(1, ACCOUNTS + 1), 2)
        transfer = Transfer(
            str(uuid.uuid4()), source, target, self._dice.randint(1, 9), self._number, self._count
        )
        fates = self._journal.fates
        fates[transfer] = Fate.FAILED
        if self._number % 2:
            await self._simply(client, transfer)
        else:
            await self._in_a_pipeline(client, transfer)
        fates[transfer] = Fate.UNKNOWN
        reply = await client.ask(m.query("commit"), 1, PATIENCE)
        errors = m.errors(reply.messages)
        if m.command_tags(reply.messages) == ["COMMIT"] and not errors:
            fates[transfer] = Fate.COMMITTED
        elif any(error["S"] == "ERROR" for error in errors) or m.command_tags(reply.messages):
            fates[transfer] = Fate.FAILED
        if reply.closed:
            raise Ended

    async def _simply(self, client: NonceClient, transfer: Transfer) -> None:
        rows = list[list[str | None]]()
        for sql in _statements(transfer, repeatable=self._number % 4 == 1):
            rows += _rows(await client.ask(m.query(sql), 1, PATIENCE))
        self._compare(rows)

    async def _in_a_pipeline(self, client: NonceClient, transfer: Transfer) -> None:
        *parts, last = _statements(transfer, repeatable=self._number % 4 == 0)
        data = b"".join(m.one_shot(sql, end=b"") for sql in parts) + m.one_shot(last)
        self._compare(_rows(await client.ask(data, 1, PATIENCE)))

    def _compare(self, rows: list[list[str | None]]) -> None:
        """What the updates have returned is what a look at the accounts finds."""
        changed, seen = sorted(map(tuple, rows[:2])), sorted(map(tuple, rows[2:]))
        if changed != seen or len(changed) != 2:
            self._journal.problems.append(f"teller {self._number} changed {changed} and saw {seen}")


def _statements(transfer: Transfer, *, repeatable: bool) -> list[str]:
    moves = sorted([(transfer.source, -transfer.amount), (transfer.target, transfer.amount)])
    return [
        "begin isolation level repeatable read" if repeatable else "begin",
        "insert into led (tx, src, dst, amt, cli, seq) values"
        f" ('{transfer.tx}', {transfer.source}, {transfer.target}, {transfer.amount},"
        f" {transfer.client}, {transfer.number})",
        *(f"update acct set bal = bal + {sum} where id = {id} returning id, bal" for id, sum in moves),
        f"select id, bal from acct where id in ({transfer.source}, {transfer.target})",
    ]


def _rows(reply: Reply) -> list[list[str | None]]:
    if reply.closed or m.errors(reply.messages):
        raise Ended(str(m.errors(reply.messages)))
    return m.rows(reply.messages)


def open_bank(server: Server) -> None:
    """Tables and money."""
    for sql in _TABLES:
        server.sql(sql)
    for table in ("acct", "led", "led_n_seq"):
        server.sql(f"grant all on {table} to {server.user}")


def audit(server: Server, journal: Journal) -> list[str]:
    """What is wrong with the books."""
    problems = list(journal.problems)
    if server.value("select sum(bal) from acct") != ACCOUNTS * BALANCE:
        problems.append("money was made or lost")
    wrong = server.sql(
        "select id from acct left join (select id, sum(amt) as sum from"
        " (select src as id, -amt as amt from led union all select dst, amt from led) moves"
        " group by id) moved using (id)"
        f" where bal <> {BALANCE} + coalesce(sum, 0)"
    )
    if wrong:
        problems.append(f"{len(wrong)} accounts differ from the ledger")
    rows = server.sql("select tx::text, cli, seq from led order by n")
    times = Counter(str(row[0]) for row in rows)
    known = {transfer.tx for transfer in journal.fates}
    if strangers := set(times) - known:
        problems.append(f"{len(strangers)} transfers that nobody began")
    for transfer, fate in journal.fates.items():
        allowed = {Fate.COMMITTED: (1,), Fate.FAILED: (0,), Fate.UNKNOWN: (0, 1)}[fate]
        if times[transfer.tx] not in allowed:
            problems.append(f"{fate.value}, and {times[transfer.tx]} times in the ledger: {transfer}")
    return problems + _order(rows)


def _order(rows: list[tuple[object, ...]]) -> list[str]:
    """Each client's transfers are in the ledger in the order in which it began them."""
    last = Counter[object]()
    problems = []
    for tx, client, number in rows:
        assert isinstance(number, int)
        if number <= last[client]:
            problems.append(f"{tx} of client {client} is out of order")
        last[client] = number
    return problems
