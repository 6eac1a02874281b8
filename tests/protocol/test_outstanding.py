import pytest

from protocol import tags
from protocol.errors import UnexpectedMessage
from protocol.outstanding import FAKE, FORWARD, SKIP, Outstanding

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


def owed(*requests: str | int) -> Outstanding:
    outstanding = Outstanding()
    for request in requests:
        outstanding.push(ord(request) if isinstance(request, str) else request)
    return outstanding


def queue_of(outstanding: Outstanding) -> str:
    return "".join(chr(entry) for entry in outstanding.queue)


def replied(outstanding: Outstanding, tags_: str) -> Outstanding:
    for tag in tags_:
        if tag == "E":
            outstanding.error()
        else:
            outstanding.reply(ord(tag))
    return outstanding


# The table of replies.


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("request_", COMPLETED_BY)
def test_a_reply_completes_its_request_or_leaves_it_owed_or_is_a_fault(request_: str, reply: str) -> None:
    outstanding = owed(request_, "P")
    if reply in COMPLETED_BY[request_]:
        assert outstanding.reply(ord(reply)) == FORWARD
        assert queue_of(outstanding) == "P"
    elif reply in LEAVES_OWED.get(request_, ""):
        assert outstanding.reply(ord(reply)) == FORWARD
        assert queue_of(outstanding) == request_ + "P"
    else:
        with pytest.raises(UnexpectedMessage):
            outstanding.reply(ord(reply))


@pytest.mark.parametrize("reply", REPLIES)
def test_no_reply_is_owed_to_nobody(reply: str) -> None:
    with pytest.raises(UnexpectedMessage, match="was owed"):
        Outstanding().reply(ord(reply))


@pytest.mark.parametrize("request_", COMPLETED_BY)
def test_the_reply_to_a_request_of_ours_is_skipped(request_: str) -> None:
    outstanding = owed(ord(request_) | SKIP, request_)
    for reply in LEAVES_OWED.get(request_, "")[:1] + COMPLETED_BY[request_][:1]:
        assert outstanding.reply(ord(reply)) == SKIP
    assert outstanding.reply(ord(COMPLETED_BY[request_][0])) == FORWARD


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
    outstanding = owed("Q", ord("P") | SKIP, ord("C") | FAKE)
    assert repr(outstanding) == "<Outstanding [Q skip:P fake:C]>"

    outstanding.reply(tags.COPY_IN_RESPONSE)
    assert repr(outstanding).endswith("] copying>")
    assert repr(replied(owed("P"), "E")) == "<Outstanding [] skipping>"


# Errors.


@pytest.mark.parametrize("request_", "PBDEC")
def test_an_error_drops_its_group_up_to_the_sync(request_: str) -> None:
    outstanding = owed(request_, *"PBES", *"PS")

    assert outstanding.error() == FORWARD

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

    assert outstanding.error() == FORWARD
    assert queue_of(outstanding) == request_ + "PS"
    assert not outstanding.skipping

    replied(outstanding, "Z")
    assert queue_of(outstanding) == "PS"


def test_an_error_about_a_request_of_ours_is_skipped() -> None:
    assert owed(tags.PARSE | SKIP, tags.SYNC).error() == SKIP


def test_an_error_nobody_asked_for_is_a_fault() -> None:
    with pytest.raises(UnexpectedMessage, match="nothing was owed"):
        Outstanding().error()


def test_a_copy_done_alone_can_have_no_error() -> None:
    outstanding = owed("E", "c")
    replied(outstanding, "C")
    with pytest.raises(UnexpectedMessage):
        outstanding.error()


# Fakes.


def test_fakes_are_due_before_the_first_real_reply() -> None:
    outstanding = owed(tags.PARSE | FAKE, tags.CLOSE | FAKE, "B", tags.PARSE | FAKE)

    assert outstanding.fakes() == b"1\0\0\0\x043\0\0\0\x04"
    assert outstanding.fakes() == b""
    outstanding.reply(tags.BIND_COMPLETE)
    assert outstanding.fakes() == b"1\0\0\0\x04"
    assert queue_of(outstanding) == ""


def test_an_error_takes_the_fakes_behind_it_along() -> None:
    outstanding = owed("B", tags.PARSE | FAKE, "S")

    outstanding.error()

    assert outstanding.fakes() == b""
    assert queue_of(outstanding) == "S"


# COPY from the client.


@pytest.mark.parametrize("ends", ["c", "f"])
def test_a_copy_by_simple_query_ends_with_its_ready_for_query(ends: str) -> None:
    outstanding = replied(owed("Q"), "G")
    assert outstanding.copying

    outstanding.push(ord(ends))
    replied(outstanding, "C" if ends == "c" else "E")
    assert not outstanding.copying
    replied(outstanding, "Z")

    assert queue_of(outstanding) == ""
    assert outstanding.settled


@pytest.mark.parametrize("ends", ["c", "f"])
def test_a_copy_by_execute_ends_with_its_sync(ends: str) -> None:
    outstanding = replied(owed("E"), "G")
    outstanding.push(ord(ends))
    outstanding.push(tags.SYNC)

    replied(outstanding, "CZ" if ends == "c" else "EZ")

    assert (queue_of(outstanding), outstanding.copying, outstanding.skipping) == ("", False, False)
    assert outstanding.settled


def test_copy_done_may_be_sent_before_the_server_asks_for_data() -> None:
    outstanding = owed(*"EScS")

    replied(outstanding, "G")
    assert queue_of(outstanding) == "EcS"
    replied(outstanding, "CZ")

    assert queue_of(outstanding) == ""
    assert outstanding.settled


def test_syncs_within_copy_data_are_not_answered() -> None:
    outstanding = replied(owed(*"ES"), "G")
    outstanding.push(tags.SYNC)
    assert queue_of(outstanding) == "E"

    outstanding.push(tags.COPY_DONE)
    outstanding.push(tags.SYNC)
    replied(outstanding, "CZ")

    assert queue_of(outstanding) == ""
    assert outstanding.settled


def test_an_error_among_syncs_within_copy_data_leaves_a_doubt() -> None:
    outstanding = replied(owed("E"), "G")
    outstanding.push(tags.SYNC)

    outstanding.error()

    assert not outstanding.settled
    assert not outstanding.ends_in_ready()


def test_an_error_without_syncs_within_copy_data_leaves_no_doubt() -> None:
    outstanding = replied(owed("E"), "G")
    outstanding.push(tags.COPY_DONE)
    outstanding.push(tags.SYNC)

    replied(outstanding, "EZ")

    assert outstanding.settled
    assert queue_of(outstanding) == ""


def test_syncs_of_a_copy_that_went_well_cast_no_doubt_on_the_next() -> None:
    outstanding = replied(owed(*"ES"), "G")
    for tag in "cS":
        outstanding.push(ord(tag))
    replied(outstanding, "CZ")
    outstanding.push(tags.QUERY)

    replied(outstanding, "GEZ")

    assert outstanding.settled


def test_copy_ends_for_a_copy_that_never_began_are_ignored() -> None:
    outstanding = owed(*"EScS")

    replied(outstanding, "EZ")
    assert queue_of(outstanding) == "S"
    replied(outstanding, "Z")
    assert queue_of(outstanding) == ""


@pytest.mark.parametrize(("request_", "reply"), [("S", "Z"), ("F", "VZ"), ("Q", "CZ"), ("Q", "EZ")])
def test_a_copy_end_behind_the_last_request_is_not_waited_for(request_: str, reply: str) -> None:
    assert queue_of(replied(owed(request_, "c", "f"), reply)) == ""


def test_copy_ends_do_not_hide_the_requests_behind_them() -> None:
    outstanding = replied(owed("E", "c", "f", "P", "S"), "C")
    assert queue_of(replied(outstanding, "1")) == "S"

    assert queue_of(replied(owed("E", "c", "Q"), "CE")) == "Q"


def test_a_simple_query_may_copy_twice() -> None:
    outstanding = owed(*"QcSSc")

    replied(outstanding, "GC")
    assert queue_of(outstanding) == "QSSc"
    replied(outstanding, "G")
    assert queue_of(outstanding) == "Qc"
    replied(outstanding, "CZ")

    assert queue_of(outstanding) == ""


def test_syncs_between_two_copies_of_one_query_are_not_answered() -> None:
    outstanding = replied(owed("Q"), "G")
    outstanding.push(tags.COPY_DONE)
    replied(outstanding, "CG")
    outstanding.push(tags.SYNC)
    assert queue_of(outstanding) == "Q"


def test_copy_to_the_client_needs_nothing_but_its_replies() -> None:
    assert queue_of(replied(owed("Q"), "HCZ")) == ""
    outstanding = replied(owed(*"ES"), "H")
    assert not outstanding.copying
    assert queue_of(replied(outstanding, "CZ")) == ""


def test_a_command_in_a_query_without_copy_data_leaves_a_late_copy_done_alone() -> None:
    outstanding = owed("Q", "c", "S")
    replied(outstanding, "CZ")
    assert queue_of(outstanding) == "S"


def test_a_query_that_is_complete_in_copy_mode_needs_no_copy_done() -> None:
    assert queue_of(replied(owed("Q"), "GCZ")) == ""


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
