import pytest

from protocol import tags
from protocol.errors import UnexpectedMessage
from protocol.outstanding import Outstanding
from tests.protocol.account import owed, queue_of, replied

COMPLETED_BY = {
    "P": "1",
    "B": "2",
    "C": "3",
    "D": "Tn",
    "E": "CIs",
    "S": "Z",
    "Q": "Z",
    "F": "Z",
}
LEAVES_OWED = {"D": "t", "E": "GH", "Q": "TCIGH", "F": "V"}
REPLIES = "123TntCIsGHVZ"


# The table of replies.


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("request_", COMPLETED_BY)
def test_a_reply_completes_its_request_or_leaves_it_owed_or_is_a_fault(request_: str, reply: str) -> None:
    outstanding = owed(request_, "P")
    if reply in COMPLETED_BY[request_]:
        assert outstanding.reply(ord(reply)) is None
        assert queue_of(outstanding) == "P"
    elif reply in LEAVES_OWED.get(request_, ""):
        assert outstanding.reply(ord(reply)) is None
        assert queue_of(outstanding) == request_ + "P"
    else:
        with pytest.raises(UnexpectedMessage):
            outstanding.reply(ord(reply))


@pytest.mark.parametrize("reply", REPLIES)
def test_no_reply_is_owed_to_nobody(reply: str) -> None:
    with pytest.raises(UnexpectedMessage, match="was owed"):
        Outstanding().reply(ord(reply))


@pytest.mark.parametrize("request_", "PBDCQ")
def test_every_reply_to_a_request_comes_with_its_note(request_: str) -> None:
    outstanding = Outstanding()
    outstanding.note(ord(request_), "the note")
    outstanding.push(ord(request_))
    for reply in LEAVES_OWED.get(request_, "")[:1] + COMPLETED_BY[request_][:1]:
        assert outstanding.reply(ord(reply)) == "the note"
    assert outstanding.reply(ord(COMPLETED_BY[request_][0])) is None
    assert not outstanding.notes


@pytest.mark.parametrize("reply", "GH")
def test_the_start_of_a_copy_by_a_simple_query_comes_with_its_note(reply: str) -> None:
    outstanding = Outstanding()
    outstanding.note(tags.QUERY, "the note")
    assert outstanding.reply(ord(reply)) == "the note"


def test_a_query_in_a_group_of_which_all_is_answered_but_the_sync_leaves_the_transaction_in_doubt() -> None:
    outstanding = Outstanding()
    outstanding.query_follows(busy=True)
    assert outstanding.mixed


@pytest.mark.parametrize("request_", "QE")
def test_rows_belong_to_what_is_executed(request_: str) -> None:
    outstanding = owed(request_, "S")
    outstanding.rows()
    assert queue_of(outstanding) == request_ + "S"


@pytest.mark.parametrize("requests", ["", "P", "BE", "S", "F", "DE"])
def test_rows_nobody_asked_for_are_a_fault(requests: str) -> None:
    with pytest.raises(UnexpectedMessage, match="sent rows"):
        owed(*requests).rows()


@pytest.mark.parametrize("stray", ["c", "f", "cf"])
def test_the_end_of_a_copy_that_is_none_is_ignored_ahead_of_rows(stray: str) -> None:
    outstanding = owed(*stray, "E")
    outstanding.rows()
    assert queue_of(outstanding) == "E"


def test_rows_while_copy_data_is_taken_leave_its_end_owed() -> None:
    outstanding = owed("E", "c")
    replied(outstanding, "G").rows()
    assert queue_of(outstanding) == "Ec"


def test_what_is_sent_while_postgresql_waits_for_a_sync_or_for_copy_data_is_discarded() -> None:
    outstanding = owed("Q")
    assert not outstanding.discards()
    assert replied(outstanding, "G").discards()
    outstanding.push(tags.COPY_DONE)
    assert not outstanding.discards()
    assert replied(owed("P"), "E").discards()
    assert not replied(owed("P", "S"), "E").discards()


def test_replies_come_in_the_order_of_the_requests() -> None:
    outstanding = owed(*"PBDES")

    replied(outstanding, "12TCZ")

    assert queue_of(outstanding) == ""


def test_a_describe_of_a_statement_has_two_replies() -> None:
    assert queue_of(replied(owed("D", "S"), "t")) == "DS"
    assert queue_of(replied(owed("D", "S"), "tn")) == "S"


def test_a_simple_query_may_have_many_replies_and_ends_with_ready_for_query() -> None:
    outstanding = owed("Q", "Q")

    assert queue_of(replied(outstanding, "TCTCIC")) == "QQ"
    assert queue_of(replied(outstanding, "Z")) == "Q"


def test_a_function_call_ends_with_ready_for_query() -> None:
    assert queue_of(replied(owed("F", "S"), "V")) == "FS"
    assert queue_of(replied(owed("F", "S"), "VZ")) == "S"


def test_what_is_owed_can_be_read_in_a_log() -> None:
    outstanding = owed("Q")
    outstanding.note(tags.PARSE, "the note")
    assert repr(outstanding) == "<Outstanding [Q P*]>"

    outstanding.reply(tags.COPY_IN_RESPONSE)
    assert repr(outstanding).endswith("] copying>")
    assert repr(replied(owed("P"), "E")) == "<Outstanding [] skipping>"


# Errors.


@pytest.mark.parametrize("request_", "PBDEC")
def test_an_error_drops_its_group_up_to_the_sync(request_: str) -> None:
    outstanding = owed(request_, *"PBES", *"PS")

    assert outstanding.error() == (None, [])

    assert queue_of(outstanding) == "SPS"
    assert not outstanding.skipping


def test_after_an_error_in_a_group_without_its_sync_everything_is_discarded_until_it_comes() -> None:
    outstanding = replied(owed(*"PB"), "E")
    assert outstanding.skipping

    for discarded in "PBDECQF":
        outstanding.push(ord(discarded))
    assert queue_of(outstanding) == ""
    assert outstanding.skipping

    outstanding.push(tags.SYNC)
    assert queue_of(outstanding) == "S"
    assert not outstanding.skipping


def test_a_simple_query_behind_a_failed_group_gets_no_reply_of_its_own() -> None:
    outstanding = replied(owed("P"), "E")
    for tag in "QS":
        outstanding.push(ord(tag))

    replied(outstanding, "Z")

    assert queue_of(outstanding) == ""


@pytest.mark.parametrize("request_", "QFS")
def test_an_error_of_what_ends_in_ready_for_query_leaves_that_owed(request_: str) -> None:
    outstanding = owed(request_, "P", "S")

    assert outstanding.error() == (None, [])
    assert queue_of(outstanding) == request_ + "PS"
    assert not outstanding.skipping

    replied(outstanding, "Z")
    assert queue_of(outstanding) == "PS"


def test_an_error_tells_the_note_of_what_failed_and_those_of_all_that_is_not_answered() -> None:
    outstanding = owed("S")
    outstanding.note(tags.PARSE, "failed")
    outstanding.push(tags.BIND)
    outstanding.note(tags.CLOSE, "discarded")
    outstanding.push(tags.SYNC)
    outstanding.note(tags.PARSE, "of the next group")
    replied(outstanding, "Z")

    assert outstanding.error() == ("failed", ["failed", "discarded"])

    assert list(outstanding.notes) == ["of the next group"]


def test_an_error_of_what_has_no_note_tells_only_what_is_not_answered() -> None:
    outstanding = owed("B")
    outstanding.note(tags.CLOSE, "discarded")

    assert outstanding.error() == (None, ["discarded"])


def test_an_error_of_a_query_leaves_its_note_to_its_ready_for_query() -> None:
    outstanding = Outstanding()
    outstanding.note(tags.QUERY, "the note")

    assert outstanding.error() == ("the note", [])
    assert outstanding.reply(tags.READY_FOR_QUERY) == "the note"


def test_an_error_nobody_asked_for_is_a_fault() -> None:
    with pytest.raises(UnexpectedMessage, match="nothing was owed"):
        Outstanding().error()


def test_a_copy_done_alone_can_have_no_error() -> None:
    outstanding = owed("E", "c")
    replied(outstanding, "C")
    with pytest.raises(UnexpectedMessage):
        outstanding.error()


# What may be done.


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ("", False),
        ("P", False),
        ("S", True),
        ("Q", True),
        ("F", True),
        ("PBES", True),
        ("SP", False),
        ("Qc", False),
        ("Qd", False),
    ],
)
def test_a_server_can_be_waited_for_if_all_it_owes_ends_in_ready_for_query(
    requests: str, expected: bool
) -> None:
    assert owed(*requests).ends_in_ready() is expected


def test_a_server_that_takes_copy_data_cannot_be_waited_for() -> None:
    assert not replied(owed("Q"), "G").ends_in_ready()


@pytest.mark.parametrize(
    ("requests", "expected"),
    [("", False), ("P", True), ("PS", False), ("Q", False), ("F", False), ("SB", True)],
)
def test_a_flush_makes_the_server_send_something_only_behind_extended_messages(
    requests: str, expected: bool
) -> None:
    assert owed(*requests).can_flush() is expected


def test_copy_data_may_be_wanted_while_something_is_owed() -> None:
    assert not Outstanding().may_copy()
    assert owed("Q").may_copy()
    assert owed("E").may_copy()
    assert replied(owed("Q"), "G").may_copy()
    assert not replied(owed("Q"), "GEZ").may_copy()
    assert not replied(owed("E"), "GE").may_copy()


# A simple Query behind extended messages.


@pytest.mark.parametrize("requests", ["E", "PBE", "PBED", "SEC"])
def test_a_query_behind_an_execute_without_its_sync_leaves_the_transaction_in_doubt(requests: str) -> None:
    outstanding = owed(*requests)
    outstanding.query_follows(busy=True)
    assert outstanding.mixed


@pytest.mark.parametrize("requests", ["P", "BD", "ES", "EQ", "EF", "ESPBD"])
def test_a_query_elsewhere_leaves_nothing_in_doubt(requests: str) -> None:
    outstanding = owed(*requests)
    outstanding.query_follows(busy=True)
    assert not outstanding.mixed


@pytest.mark.parametrize("busy", [False, True])
def test_a_query_in_a_group_of_which_everything_has_been_answered_leaves_the_transaction_in_doubt(
    busy: bool,
) -> None:
    outstanding = Outstanding()
    outstanding.query_follows(busy=busy)
    assert outstanding.mixed is busy


def test_a_query_that_is_discarded_leaves_nothing_in_doubt() -> None:
    outstanding = owed("P", "E")
    outstanding.query_follows(busy=True)
    outstanding.push(tags.QUERY)
    outstanding.error()
    assert not outstanding.mixed


def test_an_error_ahead_of_a_query_in_another_group_changes_nothing_about_it() -> None:
    outstanding = owed("P", "S", "E")
    outstanding.query_follows(busy=True)
    outstanding.push(tags.QUERY)
    outstanding.error()
    assert outstanding.mixed


def test_a_noted_request_counts_like_any_other() -> None:
    outstanding = owed()
    outstanding.note(tags.EXECUTE, "the note")
    outstanding.query_follows(busy=True)
    assert outstanding.mixed
    assert repr(outstanding) == "<Outstanding [E*]>"
