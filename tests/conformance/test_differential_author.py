"""What the author of random pipelines writes: always the same for a seed, and within the rules."""

import random

import pytest

from tests.conformance.differential import texts
from tests.conformance.differential.author import Author, write
from tests.conformance.differential.rules import Mode, lawful
from tests.conformance.differential.script import Script, Step, Wait
from tests.conformance.differential.shrink import candidates
from tests.conformance.differential.stage import SLOTS
from tests.support import messages as m

MODES: tuple[Mode, ...] = ("session", "transaction", "statement")


def scripts(mode: Mode, count: int = 150) -> list[Script]:
    return [write(seed, seed % SLOTS, mode) for seed in range(count)]


def steps(*messages: bytes) -> list[Step]:
    return [Step(message) for message in messages]


@pytest.mark.parametrize("mode", MODES)
def test_a_seed_is_always_the_same_script(mode: Mode) -> None:
    assert scripts(mode, 50) == scripts(mode, 50)
    assert write(1, 1, mode) != write(7, 1, mode)


@pytest.mark.parametrize("mode", MODES)
def test_every_script_keeps_to_the_rules(mode: Mode) -> None:
    assert all(lawful(script.all, mode) for script in scripts(mode))


@pytest.mark.parametrize("mode", MODES)
def test_every_script_ends_where_it_began_or_breaks_the_connection(mode: Mode) -> None:
    for script in scripts(mode):
        if script.closing:
            assert [step.tag for step in script.closing[:4]] == ["f", "P", "S", "Q"]
            assert script.closing[-1].body.endswith(b"reset all\0")
        else:
            assert b"in the middle of COPY data" in script.steps[-1].data


def test_scripts_speak_of_the_tables_of_their_slot_only() -> None:
    for script in scripts("transaction"):
        text = b"".join(step.data for step in script.all)
        others = set(range(SLOTS)) - {script.seed % SLOTS}
        assert not [slot for slot in others if f" t{slot}".encode() in text or f" x{slot}".encode() in text]


def test_there_are_waits_for_replies_and_for_silence_and_cuts_inside_of_messages() -> None:
    written = [step for script in scripts("transaction") for step in script.steps]
    assert {step.wait for step in written} == set(Wait)
    assert any(0 < cut < 5 for step in written for cut in step.cuts)
    assert all(0 < cut < len(step.data) for step in written for cut in step.cuts)


def test_statement_mode_has_no_transaction_blocks() -> None:
    words = (b"begin", b"commit", b"savepoint")
    for script in scripts("statement"):
        for step in script.steps:
            assert not any(step.body.startswith(word) for word in words), script.lines()


def test_the_turns_of_a_script_are_its_bytes_up_to_each_wait() -> None:
    for script in scripts("transaction"):
        turns = list(script.turns())
        sent = b"".join(segment for turn in turns for segment in turn.segments)
        assert sent == b"".join(step.data for step in script.all)
        assert [turn.last for turn in turns if turn.wait] == [
            number for number, step in enumerate(script.all) if step.wait
        ]
        assert turns[-1].last == len(script.all) - 1


def test_a_cut_begins_a_segment() -> None:
    script = Script(0, (Step(m.flush(), cuts=(1, 3)), Step(m.sync(), wait=Wait.REPLIES), Step(m.sync())))
    assert [turn.segments for turn in script.turns()] == [
        [b"H", b"\0\0", b"\0\4" + m.sync()],
        [m.sync()],
    ]


def test_an_author_says_nothing_that_is_forbidden() -> None:
    author = Author(random.Random(1), 1, 1, "transaction")
    assert not author.say(m.execute())
    assert author.say(m.bind())
    assert author.say(m.execute())
    assert [step.tag for step in author.steps] == ["B", "E"]


COPY = m.query("copy t from stdin")

UNLAWFUL = {
    "the unnamed portal is not bound": [m.execute()],
    "the unnamed portal was bound before a Sync": [m.parse("", "select 1"), m.bind(), m.sync(), m.execute()],
    "the unnamed portal was bound before a Query": [m.bind(), m.query("select 1/0"), m.describe(b"P")],
    "a Sync directly behind a Query in a group with an Execute": [
        m.parse("a", "select 1"),
        m.bind("p", "a"),
        m.execute("p"),
        m.query("select 1"),
        m.sync(),
    ],
    "the same, with a Sync in between that a COPY may ignore": [
        m.parse("a", "copy t from stdin"),
        m.bind("p", "a"),
        m.execute("p"),
        m.sync(),
        m.copy_done(),
        m.query("select 1"),
        m.sync(),
    ],
    "a query in the middle of COPY data": [COPY, m.copy_data(b"1\n"), m.query("select 1"), m.sync()],
    "a COPY by a prepared statement goes on": [
        m.parse("a", "copy t from stdin"),
        m.bind("p", "a"),
        m.execute("p"),
        m.close(b"S", "a"),
    ],
    "a Sync among data without an end": [COPY, m.copy_data(b"1\n"), m.sync()],
    "what SQL prepared is used in another transaction": [
        m.query("begin"),
        m.query("prepare q0000001_1 as select 1"),
        m.query("commit"),
        m.query("execute q0000001_1"),
    ],
    "what SQL prepared is used where a block may have ended": [
        m.parse("end", "rollback"),
        m.sync(),
        m.query("begin"),
        m.query("prepare q0000001_1 as select 1"),
        m.bind("", "end"),
        m.query("execute q0000001_1"),
    ],
    "the begin of the block may have been skipped": [
        m.parse("", "selekt"),
        m.query("begin"),
        m.query("prepare q0000001_1 as select 1"),
        m.query("execute q0000001_1"),
    ],
}
LAWFUL = {
    "the unnamed portal behind its Bind": [m.bind(), m.describe(b"P"), m.execute(), m.execute()],
    "a query in the middle of COPY data at the very end": [COPY, m.query("select 1")],
    "a Sync behind a Query in a group with an Execute, and something in between": [
        m.parse("a", "select 1"),
        m.bind("p", "a"),
        m.execute("p"),
        m.query("select 1"),
        m.describe(b"S", "a"),
        m.sync(),
    ],
    "a COPY with its data": [COPY, m.copy_data(b"1\n"), m.flush(), m.copy_done(), m.query("select 1")],
    "Syncs before data and among good data": [
        COPY, m.sync(), m.copy_data(b"1\n"), m.sync(), m.copy_done(), m.sync(),
    ],
    "a Sync among data that a CopyFail ends": [COPY, m.copy_data(b"1\n"), m.sync(), m.copy_fail("no")],
    "what SQL prepared is used in one block": [
        m.query("begin"),
        m.query("prepare q0000001_1 as select 1"),
        m.query("execute q0000001_1"),
        m.query("rollback to s"),
        m.query("deallocate q0000001_1"),
    ],
    "what SQL prepared is used in one query": [m.query("prepare q0000001_1 as select 1; execute q0000001_1")],
}  # fmt: skip


@pytest.mark.parametrize("what", UNLAWFUL)
def test_what_could_not_be_compared_is_unlawful(what: str) -> None:
    assert not lawful(steps(*UNLAWFUL[what]), "transaction")


@pytest.mark.parametrize("what", LAWFUL)
def test_what_can_be_compared_is_lawful(what: str) -> None:
    assert lawful(steps(*LAWFUL[what]), "transaction")


def test_a_sync_among_data_of_which_some_is_bad_is_unlawful() -> None:
    bad = [Step(COPY), Step(m.copy_data(b"x\n"), fails=True), Step(m.sync()), Step(m.copy_done())]
    assert not lawful(bad, "transaction")


def test_in_statement_mode_a_query_stands_behind_a_sync() -> None:
    group = steps(m.parse("a", "select 1"), m.query("select 1"))
    assert not lawful(group, "statement")
    assert lawful(group, "transaction")
    assert lawful([group[0], Step(m.sync()), group[1]], "statement")


def test_in_session_mode_what_sql_prepared_stays() -> None:
    apart = steps(m.query("prepare q0000001_1 as select 1"), m.query("execute q0000001_1"))
    assert lawful(apart, "session")
    assert not lawful(apart, "transaction")


def test_candidates_are_simpler_and_keep_the_closing() -> None:
    script = write(11, 5, "transaction")
    for candidate in candidates(script):
        assert candidate.closing == script.closing
        assert weight(candidate) < weight(script)


def weight(script: Script) -> tuple[int, int]:
    return len(script.steps), sum(len(step.cuts) + step.wait for step in script.steps)


def test_a_script_is_printed_with_its_waits_and_cuts_and_how_far_it_was_sent() -> None:
    script = Script(0, (Step(m.query("select 1"), Wait.SILENCE, (2,)), Step(m.sync())))
    assert script.lines(0) == [
        'F\t13\tQuery\t "select 1"  (cut at 2)',
        "-- so far it was sent when the difference was seen",
        "-- waits for silence",
        "F\t4\tSync",
    ]


def test_good_rows_are_known_for_every_copy_that_takes_data() -> None:
    assert set(texts.GOOD_ROWS) == {text.sql for text in texts.COPIES[:3]}
