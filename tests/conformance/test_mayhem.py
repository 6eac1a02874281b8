"""Load under kills, in short, and the judges of it; the long run is `python -m tests.conformance.mayhem`."""

import uuid

import pytest

from tests.conformance.bank import Fate, Journal, Transfer, audit, open_bank
from tests.conformance.mayhem import Mayhem, build
from tests.support.postgres import PostgresServer
from tests.support.server import Server
from tests.support.standard import howdah_only


@pytest.mark.slow
@howdah_only("only Howdah has workers")
def test_nothing_is_mixed_lost_or_done_twice_while_workers_and_backends_are_killed(server: Server) -> None:
    with build(server, workers=2) as pooler:
        outcome = Mayhem(pooler, server, seed=7, clients=40, tellers=12).run(5.0, 1.0, workers=2)
    assert not outcome.failed, outcome.report()
    assert outcome.deaths.all, outcome.report()
    assert outcome.journal.counts()[Fate.COMMITTED.value] > 100, outcome.report()


def move(server: Server, transfer: Transfer, times: int = 1) -> None:
    for _ in range(times):
        server.sql(
            "insert into led (tx, src, dst, amt, cli, seq) values (%s, %s, %s, %s, %s, %s)",
            [
                transfer.tx,
                transfer.source,
                transfer.target,
                transfer.amount,
                transfer.client,
                transfer.number,
            ],
        )
        server.sql("update acct set bal = bal - %s where id = %s", [transfer.amount, transfer.source])
        server.sql("update acct set bal = bal + %s where id = %s", [transfer.amount, transfer.target])


def transfer(number: int = 1) -> Transfer:
    return Transfer(str(uuid.uuid4()), 1, 2, 5, 7, number)


def test_the_audit_sees_what_is_lost_made_and_done_twice(postgres: PostgresServer) -> None:
    bank = Server(postgres, postgres.new_database())
    open_bank(bank)
    right, lost, again, ghost, open_end = (transfer(number) for number in range(1, 6))
    move(bank, right)
    move(bank, open_end)
    journal = Journal(fates={right: Fate.COMMITTED, open_end: Fate.UNKNOWN, transfer(9): Fate.UNKNOWN})
    assert audit(bank, journal) == []
    journal.fates |= {lost: Fate.COMMITTED, again: Fate.COMMITTED, ghost: Fate.FAILED}
    move(bank, again, times=2)
    move(bank, ghost)
    move(bank, transfer(8))
    bank.sql("update acct set bal = bal + 1 where id = 3")
    found = "\n".join(audit(bank, journal))
    for sign in (
        "money was made or lost",
        "1 accounts differ",
        "1 transfers that nobody began",
        "committed, and 0 times",
        "committed, and 2 times",
        "failed, and 1 times",
        "out of order",
    ):
        assert sign in found
    bank.close()
