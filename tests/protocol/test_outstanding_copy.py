"""COPY from the client: who is owed what while the server takes data."""

import pytest

from protocol import tags
from protocol.outstanding import DATA_EARLY, NOTHING_EARLY, Outstanding
from tests.protocol.account import owed, queue_of, replied


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
    ],
)
def test_a_sync_among_copy_data_blurs_whose_replies_come(events: str, blurred: bool) -> None:
    """G, C and Z are replies; the rest is sent, where `d` is noted as whoever sends it has to."""
    outstanding = Outstanding()
    for event in events:
        if event in "GCZ":
            outstanding.reply(ord(event))
        elif event != "d":
            outstanding.push(ord(event))
        elif outstanding.copying:
            outstanding.data_sent = True
        else:
            outstanding.early = outstanding.early or DATA_EARLY

    assert outstanding.blurred is blurred
    assert outstanding.copying
    assert outstanding.early == NOTHING_EARLY


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
