import random

import pytest

from protocol.framer import Framer
from protocol.looks import FRONTEND_LOOK_IDLE, frontend_caps
from proxy.pieces import Piece, cut_first_group, edited, from_message, strip, with_data
from tests.support.playbook import Said, from_frontend

LONG = "Q " + "x" * 40_000


def pieces(*chunks: bytes) -> list[Piece]:
    """What the framer makes of these chunks."""
    framer = Framer(FRONTEND_LOOK_IDLE, frontend_caps())
    cut = []
    for chunk in chunks:
        messages = framer.feed(chunk)
        if messages or framer.lead:
            cut.append((framer.buffer, framer.end, framer.lead, messages))
    return cut


def piece(*said: Said) -> Piece:
    (only,) = pieces(from_frontend(*said))
    return only


def content(held: list[Piece]) -> bytes:
    return b"".join(buffer[:end] for buffer, end, _, _ in held)


def tags(one: Piece) -> str:
    return "".join(chr(tag) for tag, _, _ in one[3])


def consistent(held: list[Piece]) -> None:
    """Every message stands where its offsets say."""
    for buffer, end, lead, messages in held:
        at = lead
        for tag, start, stop in messages:
            assert start >= at
            assert buffer[start] == tag
            assert int.from_bytes(buffer[start + 1 : start + 5], "big") + 1 == stop - start
            at = stop
        assert at >= end


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (("Q 1", "Q 2"), "QQ"),
        (("H", "Q 1"), "Q"),
        (("d x", "c", "Q 1"), "Q"),
        (("P 1", "H", "B"), "PHB"),
        (("H",), ""),
        (("d x", "d y", "f z"), ""),
    ],
)
def test_what_needs_no_server_is_taken_out(said: tuple[str, ...], left: str) -> None:
    stripped = strip(piece(*said), dropping=False, skipping=False, behind=False, streaming=False)
    assert stripped.wanted == bool(left)
    if left:
        assert tags(stripped.piece) == left
        consistent([stripped.piece])


def test_behind_others_nothing_is_stray() -> None:
    one = piece("d x", "c", "H")
    stripped = strip(one, dropping=False, skipping=False, behind=True, streaming=False)
    assert stripped.wanted
    assert stripped.piece == one


def test_terminate_ends_everything_in_front_of_it() -> None:
    assert strip(piece("Q 1", "X"), dropping=False, skipping=False, behind=False, streaming=False).left


def test_a_refused_group_is_skipped_up_to_its_sync() -> None:
    stripped = strip(
        piece("B", "Q no", "S", "Q 2"), dropping=False, skipping=True, behind=False, streaming=False
    )
    assert (stripped.synced, stripped.skipping) == (True, False)
    assert content([stripped.piece]) == from_frontend("Q 2")
    consistent([stripped.piece])
    stripped = strip(piece("B", "E"), dropping=False, skipping=True, behind=False, streaming=False)
    assert (stripped.synced, stripped.skipping, stripped.wanted) == (False, True, False)


def test_the_rest_of_a_dropped_message_is_dropped() -> None:
    data = from_frontend("d " + "x" * 100, "Q 1")
    first, second = pieces(data[:50], data[50:])
    stripped = strip(first, dropping=False, skipping=False, behind=False, streaming=True)
    assert (stripped.wanted, stripped.dropping) == (False, True)
    stripped = strip(second, dropping=True, skipping=False, behind=False, streaming=False)
    assert (stripped.wanted, stripped.dropping) == (True, False)
    assert content([stripped.piece]) == from_frontend("Q 1")
    consistent([stripped.piece])


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        (("Q 1",), ("Q 2", "S")),
        (("F",), ("Q 2",)),
        (("P 1", "B", "E", "S"), ("P 2", "B", "E", "S")),
        (("S",), ()),
        ((LONG,), ("Q 2", "Q 3")),
        (("Q 1",), (LONG, "Q 3")),
    ],
)
def test_the_first_group_is_cut_off_however_the_stream_was_cut(
    first: tuple[str, ...], rest: tuple[str, ...]
) -> None:
    data = from_frontend(*first, *rest)
    chance = random.Random(7)
    for _ in range(60):
        cuts = sorted(chance.randrange(len(data) + 1) for _ in range(3))
        chunks = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        left, whole = cut_first_group(pieces(*(chunk for chunk in chunks if chunk)))
        assert whole
        assert content(left) == from_frontend(*rest)
        consistent(left)


@pytest.mark.parametrize("between", ["Q", "F"])
def test_a_query_among_extended_messages_is_discarded_with_them_up_to_their_sync(between: str) -> None:
    group = piece("P 1", "B", "E", between, "S", "Q 2")
    left, whole = cut_first_group([group])
    assert whole
    assert [chr(tag) for tag, _, _ in left[0][3]] == ["Q"]

    assert cut_first_group([piece("P 1", "B", "E", between)]) == ([], False)


def test_a_flush_ahead_of_a_query_does_not_make_it_one_of_a_group() -> None:
    left, whole = cut_first_group([piece("H", "Q 1", "S")])
    assert whole
    assert [chr(tag) for tag, _, _ in left[0][3]] == ["S"]


def test_a_group_without_its_end_is_taken_as_a_whole() -> None:
    assert cut_first_group([piece("P 1", "B", "E")]) == ([], False)


def test_parts_of_a_buffer_with_edits_made() -> None:
    assert edited(b"0123456789", 8, [(0, 2, b""), (4, 5, b"")]) == [b"23", b"567"]
    assert edited(b"0123456789", 4, [(0, 4, b"")]) == []
    assert edited(b"0123456789", 10, [(8, 20, b"")]) == [b"01234567"]
    assert edited(b"0123456789", 10, [(0, 2, b"ab"), (2, 2, b"c"), (9, 10, b"j")]) == [
        b"ab",
        b"c",
        b"2345678",
        b"j",
    ]


def test_the_rest_of_a_piece_begins_with_the_message_it_is_cut_at() -> None:
    buffer, end, lead, messages = piece("B", "E", "S")
    second = messages[1][1]

    rest = from_message(buffer, end, messages, second)

    assert rest == (buffer[second:end], end - second, 0, piece("E", "S")[3])
    assert lead == 0


def test_what_was_run_over_is_copy_data() -> None:
    _, end, lead, messages = piece("d 1", "d 2", "c", "Q 1", "d 3")
    reported = [message for message in messages if chr(message[0]) in "cQ"]
    (_, c_start, _), (_, _, q_stop) = reported

    assert with_data(lead, end, reported) == [(ord("d"), 0, c_start), *reported, (ord("d"), q_stop, end)]
    assert with_data(lead, end, messages) == messages
    assert with_data(c_start, q_stop, reported) == reported
    assert with_data(0, 10, []) == [(ord("d"), 0, 10)]
    assert with_data(10, 10, []) == []
