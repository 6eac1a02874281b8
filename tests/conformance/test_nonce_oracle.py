"""The nonce oracle: that it sees what is wrong, and that nothing is.

The long run is `python -m tests.conformance.nonce`.
"""

import random
from collections import Counter

import pytest

from tests.conformance.nonce import Outcome, ask, build, plan_for
from tests.conformance.nonce_client import Reply
from tests.conformance.nonce_crowd import NAMED
from tests.conformance.nonce_named import NamedStatements
from tests.conformance.nonce_oracle import Circumstances, Oracle, Tally
from tests.conformance.nonce_requests import INBOX, KINDS, TEMPLATE, Templates, told, word
from tests.support import messages as m
from tests.support.messages import Message
from tests.support.server import Server
from tests.support.standard import howdah_only

OWN, OTHERS, EARLIER = word(7, 12), word(8, 12), word(7, 11)
SEED = 20240229

per_user = howdah_only("needs a query_timeout for some users only")


# --- what the oracle sees ------------------------------------------------------------------------


def message(data: bytes) -> Message:
    return Message(data[:1], data[5:])


def good(nonce: str) -> list[Message]:
    parts = (m.row_description([nonce]), m.data_row([nonce]), m.command_complete("SELECT 1"))
    return [message(part) for part in (*parts, m.ready_for_query())]


def fatal(code: str, text: str) -> Message:
    return message(m.error_response(code, text, severity="FATAL"))


def judged(messages: list[Message], *, closed: bool = False, torn: bool = False, **allowed: bool) -> Tally:
    """What the oracle thinks of this reply to the query for OWN."""
    oracle = Oracle()
    oracle.judge("x", OWN, told(good(OWN)), Reply(messages, closed, torn), Circumstances(**allowed))
    return oracle.tally


CANCELLED = message(m.error_response("57014", "canceling statement due to user request"))
IN_POSTGRESQL = Message(b"E", CANCELLED.body[:-1] + b"Fpostgres.c\0\0")
TERMINATED = fatal("57P01", "terminating connection due to administrator command")
CRASHED = fatal("08006", "server conn crashed?")
TIMED_OUT = fatal("57014", "query timeout")
READY = message(m.ready_for_query())


def test_the_right_reply_is_no_problem() -> None:
    tally = judged(good(OWN))
    assert (tally.whole, tally.replies, tally.problems) == (1, 1, [])


@pytest.mark.parametrize("nonce", [OTHERS, EARLIER])
def test_a_reply_with_a_foreign_nonce_is_found(nonce: str) -> None:
    tally = judged(good(nonce))
    assert len(tally.foreign) == 1
    assert nonce in tally.foreign[0]


@pytest.mark.parametrize(
    "place",
    [
        m.row_description([OTHERS]),
        m.data_row([OTHERS]),
        m.data_row(["x" * 100_000 + OTHERS]),
        m.copy_data(OTHERS.encode()),
        m.error_response("P0001", OTHERS),
        m.error_response("00000", OTHERS, severity="NOTICE", tag=b"N"),
        m.message(b"A", m.int32(1) + m.string("channel") + m.string(OTHERS)),
        m.message(b"V", m.int32(14) + OTHERS.encode()),
    ],
    ids=["name", "value", "large value", "COPY", "error", "notice", "notification", "function"],
)
def test_a_foreign_nonce_is_found_wherever_it_stands(place: bytes) -> None:
    assert judged([*good(OWN)[:2], message(place), *good(OWN)[2:]]).foreign


def test_a_foreign_nonce_is_found_also_behind_an_error_that_is_allowed() -> None:
    assert judged([CANCELLED, READY, *good(OTHERS)], cancelled=True).foreign


@pytest.mark.parametrize(
    "messages",
    [
        good(OWN)[:1] + good(OWN)[2:],
        good(OWN)[:2] + good(OWN)[1:],
        [*good(OWN), *good(OWN)],
        [READY],
        [],
        [CANCELLED, READY],
        [message(m.error_response("XX000", "internal error")), READY],
    ],
    ids=["no row", "two rows", "two replies", "no reply", "nothing", "a stray cancel", "an error of ours"],
)
def test_a_reply_that_is_not_whole_is_found(messages: list[Message]) -> None:
    assert judged(messages).missing


@pytest.mark.parametrize(
    "messages",
    [[TERMINATED, TIMED_OUT], [TERMINATED, TERMINATED], [CRASHED, READY], good(OWN)[:2]],
    ids=["two faults", "one fault twice", "more behind the end", "no error"],
)
def test_an_end_that_is_not_clean_is_found(messages: list[Message]) -> None:
    assert judged(messages, closed=True, hasty=True, disturbed=True).missing


@pytest.mark.parametrize(
    ("error", "allowed"),
    [(CANCELLED, "cancelled"), (TERMINATED, "disturbed"), (CRASHED, "disturbed"), (TIMED_OUT, "hasty")],
    ids=["cancel", "terminated", "crashed", "timeout"],
)
def test_an_error_is_a_problem_only_where_nothing_explains_it(error: Message, allowed: str) -> None:
    ends = error is not CANCELLED
    messages = [*good(OWN)[:1], error] if ends else [*good(OWN)[:1], error, READY]
    assert judged(messages, closed=ends).missing
    assert judged(messages, closed=ends, **{allowed: True}).problems == []


def test_cancels_and_timeouts_are_counted_by_where_they_hit() -> None:
    assert judged([CANCELLED, READY], cancelled=True).cancels_in_queue == 1
    assert judged([IN_POSTGRESQL, READY], cancelled=True).cancels_that_hit == 1
    assert judged([TIMED_OUT], closed=True, hasty=True).timeouts == 1
    assert judged([fatal("57014", "query_timeout")], closed=True, hasty=True).timeouts_in_queue == 1


def test_copy_data_may_stop_early_only_with_an_error() -> None:
    rows = [message(m.copy_data(f"{OWN}\n".encode()))] * 3
    end = [message(m.message(b"c")), message(m.command_complete("COPY 3")), READY]
    oracle = Oracle()
    expected = told([*rows, *end])
    oracle.judge("x", OWN, expected, Reply([*rows[:2], CRASHED], closed=True), Circumstances(disturbed=True))
    assert oracle.tally.problems == []
    oracle.judge("x", OWN, expected, Reply([*rows[:2], *end]), Circumstances(disturbed=True))
    assert oracle.tally.missing


def test_too_few_faults_fail_a_run() -> None:
    assert Outcome(Tally(), Counter(), 1.0).problems == []
    assert len(Outcome(Tally(), Counter(), 1.0, least=1).problems) == 3


# --- what it asks --------------------------------------------------------------------------------


def test_every_kind_of_request_brings_its_nonce_back(server: Server) -> None:
    server.sql(INBOX)
    templates = Templates(server)
    for kind in KINDS:
        lines = templates.expected(kind, OWN)
        assert any(OWN in line for line in lines), kind
        assert not any(TEMPLATE in line for line in lines), kind
    (elephant,) = [line for line in templates.expected("elephant", OWN) if line.startswith("D")]
    assert len(elephant) > 2**20


def test_a_name_means_another_text_to_every_client() -> None:
    dice = random.Random(SEED)
    texts: set[str] = set()
    for client in (1, 2):
        statements = NamedStatements(client)
        for _ in range(50):
            statements.learn(statements.request(dice, OWN)[1])
            texts.add(statements.prepared.get("s1", ""))
    assert len(texts) > 4


def test_a_name_is_parsed_again_only_where_it_is_not_prepared() -> None:
    statements, dice = NamedStatements(1), random.Random(SEED)
    for _ in range(200):
        before = len(statements.prepared)
        _, lines = statements.request(dice, OWN)
        statements.learn(lines)
        assert len(statements.prepared) == before + lines.count("1") - lines.count("3")


def test_a_name_keeps_its_text_where_the_new_one_never_came_to_be_parsed() -> None:
    statements, dice = NamedStatements(1), random.Random(SEED)
    while "3" not in (lines := statements.request(dice, OWN)[1]):
        statements.learn(lines)
    before = dict(statements.prepared)
    statements.learn([f"E {CANCELLED}", "Z I"])
    assert statements.prepared == before


# --- the short runs ------------------------------------------------------------------------------


@per_user
@pytest.mark.slow
def test_every_reply_carries_the_askers_own_nonce(server: Server) -> None:
    with build(server) as pooler:
        outcome = ask(pooler, server, plan_for(pooler, 5000, SEED, disturbed=False), least=5)
    print(outcome.report())
    assert outcome.problems == []
    assert set(outcome.tally.requests) == {*KINDS, NAMED}


@per_user
@pytest.mark.slow
def test_also_while_servers_come_and_go(server: Server) -> None:
    """Servers are terminated, replaced and paused, settings reloaded, all the time."""
    with build(server) as pooler:
        outcome = ask(pooler, server, plan_for(pooler, 5000, SEED + 1), least=5)
    print(outcome.report())
    assert outcome.problems == []
    assert outcome.tally.lost
