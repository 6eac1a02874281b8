"""COPY from the client: who is owed what while the server takes data."""

import pytest

from protocol import tags
from protocol.outstanding import Outstanding
from tests.protocol.account import owed, queue_of, replied, sent


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


@pytest.mark.parametrize(
    ("events", "blurred"),
    [
        ("EG", False),
        ("EGS", False),
        ("ESG", False),
        ("EGd", False),
        ("EGdS", True),
        ("EGSd", False),
        ("EGdcS", False),
        ("EGdfS", False),
        ("EdG", False),
        ("EdcG", False),
        ("EdGS", True),
        ("EdSG", True),
        ("EdScG", True),
        ("EdcSG", False),
        ("EdfSG", False),
        ("ESdG", False),
        ("EGdScCSZEG", False),
        ("EdScSGCZEG", False),
        ("QGdcdSCG", True),
        ("QGdcdcSCG", False),
    ],
)
def test_a_sync_among_copy_data_blurs_whose_replies_come(events: str, blurred: bool) -> None:
    """G, C and Z are replies; the rest is sent."""
    assert happened(events).blurred is blurred


def happened(events: str) -> Outstanding:
    """A server in copy-in, after replies (G, C, Z) and what was sent."""
    outstanding = Outstanding()
    for event in events:
        if event in "GCZ":
            outstanding.reply(ord(event))
        else:
            sent(outstanding, event)
    assert outstanding.copying
    return outstanding


# What an error in COPY tells about the Syncs behind it.

VIEW = b"SERROR\0C42809\0Mcannot copy to view\0RCopyFrom\0\0"
BAD_ROW = b"SERROR\0C22P02\0Minvalid input\0WCOPY t, line 1\0RCopyGetAttributes\0\0"
BY_CLIENT = b"SERROR\0C57014\0MCOPY from stdin failed: no\0WCOPY t, line 2\0RCopyGetData\0\0"
BY_CANCEL = b"SERROR\0C57014\0Mcanceling statement\0WCOPY t, line 2\0RProcessInterrupts\0\0"
BAD_HEAD = b"SERROR\0C22P04\0MCOPY file signature not recognized\0RReceiveCopyBinaryHeader\0\0"
BAD_KEY = b"SERROR\0C23503\0Mviolates foreign key constraint\0Rri_ReportViolation\0\0"


def failed(events: str, fields: bytes) -> Outstanding:
    outstanding = happened(events)
    outstanding.copy_failed(fields)
    outstanding.error()
    return outstanding


@pytest.mark.parametrize(
    ("events", "owed_"), [("ESG", "S"), ("EGS", "S"), ("ESdcSG", "ScS"), ("ESSG", "SS"), ("QdSGcS", "QScS")]
)
def test_syncs_behind_a_copy_that_fails_before_it_reads_are_answered(events: str, owed_: str) -> None:
    outstanding = failed(events, VIEW)
    assert queue_of(outstanding) == owed_
    assert outstanding.settled
    assert not outstanding.skipping


@pytest.mark.parametrize(("events", "owed_"), [("ESGdSfS", "S"), ("EdSfSG", "S"), ("QGdSf", "Qf")])
def test_syncs_ahead_of_a_copy_fail_are_not_answered(events: str, owed_: str) -> None:
    outstanding = happened(events)
    outstanding.copy_failed(BY_CLIENT)
    assert not outstanding.blurred
    outstanding.error()
    assert queue_of(outstanding) == owed_
    assert outstanding.settled


@pytest.mark.parametrize("fields", [BAD_ROW, BY_CANCEL, BAD_HEAD, BAD_KEY])
def test_whether_syncs_ahead_of_a_fault_in_the_data_were_read_is_not_told(fields: bytes) -> None:
    outstanding = failed("ESGdScS", fields)
    assert outstanding.blurred
    assert not outstanding.settled
    assert queue_of(outstanding) == "S"


def test_an_error_that_is_not_of_a_copy_tells_nothing_about_one() -> None:
    outstanding = owed(*"PSES")
    outstanding.copy_failed(VIEW)
    outstanding.error()
    assert queue_of(outstanding) == "SES"


# Data that nobody asks for.


@pytest.mark.parametrize(
    ("requests", "replies", "left"),
    [
        ("EdddS", "", "EdS"),
        ("EdcdS", "", "EdcdS"),
        ("EdS", "C", "dS"),
        ("EdS", "CZ", ""),
        ("EdP", "C1", ""),
        ("PdSEd", "EZ", "Ed"),
        ("Sd", "Z", ""),
        ("SdQ", "Z", "Q"),
    ],
)
def test_data_for_no_copy_is_ignored(requests: str, replies: str, left: str) -> None:
    assert queue_of(replied(owed(*requests), replies)) == left


def test_data_with_nothing_outstanding_is_nobodys_business() -> None:
    assert queue_of(owed("d")) == ""


def test_data_ahead_of_the_request_that_fails_does_not_hide_it() -> None:
    outstanding = replied(owed(*"EdPBS"), "C")
    outstanding.error()
    assert queue_of(outstanding) == "S"


def test_data_among_copy_data_is_not_outstanding() -> None:
    outstanding = replied(owed("E"), "G")
    outstanding.data()
    assert queue_of(outstanding) == "E"


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
