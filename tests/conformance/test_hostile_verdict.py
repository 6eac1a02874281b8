"""The judges of the hostile server's victims see what is wrong; and its mutations are what they say."""

import random
from collections import Counter

import pytest

from tests.conformance.hostile.arena import Neighbour
from tests.conformance.hostile.arena import Result as ArenaResult
from tests.conformance.hostile.mutate import MUTATIONS, mutate
from tests.conformance.hostile.play import Play, Stage, cut
from tests.conformance.hostile.seeds import draw
from tests.conformance.hostile.verdict import Verdict, allowed, judge, mostly
from tests.support import messages as m
from tests.support.script import Conversation, FakeServer
from tests.support.wire import Raw

T, D, C, Z = (
    m.row_description(["a"]),
    m.data_row(["x" * 50]),
    m.command_complete("SELECT 1"),
    m.ready_for_query(),
)
A = m.message(b"A", m.int32(1) + b"a\0b\0")
GOOD = T + D + C + Z
OURS = m.error_response("08P01", "unexpected", severity="FATAL")
THEIRS = m.error_response("57P01", "terminated", severity="FATAL")
PLAINT = m.error_response("22012", "division by zero")


def verdict(heard: bytes, said: bytes, *, complete: bool = False, closed: bool = True) -> Verdict:
    return judge(heard, allowed(said), closed=closed, complete=complete)


@pytest.mark.parametrize(
    ("heard", "said", "complete", "outcome", "code"),
    [
        (GOOD, GOOD, True, "served", ""),
        (GOOD, GOOD + D, True, "served", ""),
        (GOOD, A + T + A + D + C + Z, True, "served", ""),
        (PLAINT + Z, PLAINT + Z, True, "served", "22012"),
        (T + OURS, T + T, False, "error", "08P01"),
        (OURS, b"", False, "error", "08P01"),
        (T + THEIRS, T + THEIRS, False, "error", "57P01"),
        (T + D[:-3], T + D[:-3], False, "cut", ""),
        (THEIRS + Z + OURS, THEIRS + Z, False, "error", "08P01"),
        (THEIRS + D, THEIRS + D, False, "error", "57P01"),
    ],
    ids=[
        "served",
        "more behind",
        "notified",
        "refused",
        "our error",
        "only that",
        "their end",
        "broken off",
        "an end that was none",
        "more behind their end",
    ],
)
def test_what_a_victim_may_hear(heard: bytes, said: bytes, complete: bool, outcome: str, code: str) -> None:
    assert verdict(heard, said, complete=complete) == Verdict(outcome, code)


@pytest.mark.parametrize(
    ("heard", "said", "complete", "closed"),
    [
        (GOOD + D, GOOD + D, True, True),
        (GOOD, T + C + Z, True, False),
        (m.data_row(["foreign"]), T, False, True),
        (T + D[:-3] + OURS, T + D[:-3], False, True),
        (T + THEIRS + OURS, T + THEIRS, False, True),
        (T + OURS, T, False, False),
        (T + PLAINT, T, False, True),
        (T, T, False, True),
        (T, T, False, False),
    ],
    ids=[
        "what came behind the end",
        "what was never said",
        "somebody else's row",
        "an error in a row",
        "two errors",
        "an error that does not end",
        "our error without an end",
        "an end without a word",
        "nothing more",
    ],
)
def test_what_a_victim_must_not_hear(heard: bytes, said: bytes, complete: bool, closed: bool) -> None:
    assert verdict(heard, said, complete=complete, closed=closed).problem


def test_a_reply_ends_at_the_first_ready_for_query_outside_a_transaction() -> None:
    within = m.ready_for_query(b"T")
    assert allowed(T + within + D + Z + C) == T + within + D + Z


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (m.row_description(["{}"]) + m.data_row(["{}"]) + C + Z, 1),
        (m.row_description(["{}"]) + m.data_row(["n_0123456789abcdef"]) + C + Z, 0),
        (m.data_row(["stray"]) + m.row_description(["{}"]) + m.data_row(["{}"]) + C + Z, 0),
        (Z, 0),
    ],
    ids=["its own", "foreign", "one row more", "none"],
)
def test_a_neighbour_takes_no_reply_but_its_own(said: bytes, answered: int) -> None:
    def script(conversation: Conversation) -> None:
        asked = conversation.read().body.split(b"'")[1]
        for message in cut(said):
            body = message[5:].replace(b"\0\0\0\2{}", b"\0\0\0\x12" + asked).replace(b"{}", asked)
            conversation.send(m.message(message[:1], body))
        conversation.read()

    with FakeServer(script) as fake, Raw(fake.host, fake.port) as raw:
        raw.send(m.startup({"user": "u"}))
        result = ArenaResult("x", Verdict("served"))
        neighbour = Neighbour(raw, result)
        neighbour.ask(extended=False)
        neighbour.settle()
        assert (result.answered, len(result.problems)) == (answered, 1 - answered)


@pytest.mark.parametrize(
    ("said", "heard", "fits"),
    [
        (m.message(b"1") + GOOD, GOOD, True),
        (GOOD, m.message(b"1") + GOOD, True),
        (GOOD + D[:-3], GOOD + D[:-3], True),
        (T + D, T + D[:-3], True),
        (GOOD, D + T, False),
        (GOOD, T + m.data_row(["foreign"]), False),
        (GOOD, T + D + D, False),
    ],
    ids=["swallowed", "made up", "broken off", "torn", "another order", "foreign", "too many"],
)
def test_where_statements_have_names_replies_may_be_kept_and_made_up(
    said: bytes, heard: bytes, fits: bool
) -> None:
    assert mostly(said, heard) == fits


# --- mutations -----------------------------------------------------------------------------------

REPLY = tuple(cut(GOOD))
PLAY = Play("simple", (Stage(m.query("select 'victim'"), REPLY),))
PLAYS = dict.fromkeys(
    (
        "simple",
        "statements",
        "error",
        "transaction",
        "extended",
        "portal",
        "by name",
        "copy out",
        "copy in",
        "extended copy in",
    ),
    PLAY,
)


def test_a_seed_is_the_same_attack_every_time() -> None:
    for seed in range(40):
        one, other = (draw(seed, PLAYS, REPLY) for _ in range(2))
        assert (one.name, one.at, one.aftermath) == (other.name, other.at, other.aftermath)
        if one.alter is not None and other.alter is not None:
            assert one.alter(REPLY) == other.alter(REPLY)


def test_mutations_are_of_every_kind_and_seldom_harmless() -> None:
    mutated = [mutate(REPLY, random.Random(seed)) for seed in range(500)]
    kinds = Counter(name for names, _ in mutated for name in names.split("+"))
    assert set(kinds) == {mutation.__name__.strip("_") for mutation in MUTATIONS}
    assert sum(stream == GOOD for _, stream in mutated) < 25
