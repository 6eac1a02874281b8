"""Who brings block after block lingers in the pump: is read a little later, when there is more of it."""

from collections.abc import Iterator

import pytest

from proxy import transports
from tests.support.pump import Turned, turning
from tests.support.sockets import Noted

BATCH = 64
BLOCK = 8192
LONG = 60_000_000_000


@pytest.fixture
def turned() -> Iterator[Turned]:
    with turning() as turned:
        yield turned


def stream(turned: Turned) -> Noted:
    """A wire that has brought two blocks, one after the other."""
    wire = turned.wire()
    for _ in range(2):
        turned.far[-1].send(bytes(BLOCK))
        turned.turn()
    return wire


def test_who_brings_block_after_block_is_not_read_at_once(turned: Turned) -> None:
    turned.pump.linger = LONG
    one = stream(turned)
    turned.far[0].send(bytes(BLOCK))
    assert not turned.due()
    assert len(one.got) == 2 * BLOCK
    one.transport.abort()


def test_what_has_come_in_the_meantime_is_brought_in_one_piece(turned: Turned) -> None:
    turned.pump.linger = 1000
    one = stream(turned)
    pieces: list[int] = []
    one.on_data = lambda data: pieces.append(len(data))
    for _ in range(3):
        turned.far[0].send(bytes(BLOCK))
    turned.turn()
    assert pieces == [3 * BLOCK]
    turned.far[0].send(b"the end")
    while len(pieces) < 2:
        turned.turn()
    assert pieces == [3 * BLOCK, len(b"the end")]


@pytest.mark.parametrize("sizes", [(BLOCK,), (BLOCK, BLOCK - 1), (BLOCK, 100, BLOCK), (BLOCK - 1,) * 5])
def test_who_brings_what_is_no_row_of_blocks_is_read_at_once(turned: Turned, sizes: tuple[int, ...]) -> None:
    turned.pump.linger = LONG
    one = turned.wire()
    for size in (*sizes, 7):
        turned.far[0].send(bytes(size))
        assert turned.due()
        turned.turn()
    assert len(one.got) == sum(sizes) + 7


def test_who_brings_nothing_more_is_read_as_ever_and_costs_no_turns(turned: Turned) -> None:
    turned.pump.linger = 1
    one = stream(turned)
    turned.turn()
    assert not turned.due()
    turned.pump.linger = LONG
    turned.far[0].send(b"x")
    assert turned.due()
    turned.turn()
    assert one.got[-1:] == b"x"


def test_all_who_linger_are_read_in_bounded_turns(turned: Turned) -> None:
    turned.pump.linger = LONG // 100
    wires = [stream(turned) for _ in range(2 * BATCH + 3)]
    for far in turned.far:
        far.send(b"x")
    before = 0
    while before < len(wires):
        turned.turn()
        read = sum(each.got[-1:] == b"x" for each in wires)
        assert before < read <= before + BATCH
        before = read


@pytest.mark.parametrize("way", ["aborted", "given away", "closed"])
def test_who_leaves_while_it_lingers_is_asked_no_more(turned: Turned, way: str) -> None:
    turned.pump.linger = LONG // 1000
    gone, stays, last = stream(turned), stream(turned), stream(turned)
    for far in turned.far:
        far.send(b"unread")
    if way == "given away":
        sock = transports.detach(gone.transport)
        assert sock.recv(99) == b"unread"
        sock.close()
    elif way == "aborted":
        gone.transport.abort()
    else:
        gone.transport.close()
    while not last.got.endswith(b"unread"):
        turned.turn()
        turned.settle()
    assert len(gone.got) == 2 * BLOCK
    assert stays.got.endswith(b"unread")


def test_who_is_paused_while_it_lingers_is_read_when_it_goes_on(turned: Turned) -> None:
    turned.pump.linger = 1000
    one = stream(turned)
    one.transport.pause_reading()
    turned.far[0].send(bytes(BLOCK))
    turned.turn()
    assert not turned.due()
    assert len(one.got) == 2 * BLOCK
    one.transport.resume_reading()
    turned.turn()
    assert len(one.got) == 3 * BLOCK


def test_who_ends_while_it_lingers_is_heard_to_the_last_byte(turned: Turned) -> None:
    turned.pump.linger = 1000
    one = stream(turned)
    turned.far[0].send(bytes(BLOCK))
    turned.far[0].close()
    while not one.lost:
        turned.turn()
        turned.settle()
    assert len(one.got) == 3 * BLOCK
    assert one.told == ["eof", "lost"]
