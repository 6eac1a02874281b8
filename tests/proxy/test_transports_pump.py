"""The pump by itself, without a loop: its turns, its descriptors, its memory."""

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from proxy import transports
from tests.support.pump import Turned, pump_module, turning
from tests.support.sockets import Noted, reset, tcp_pair

BATCH = 64
CHUNK = 127 * 1024
CALM = 16


@pytest.fixture
def turned() -> Iterator[Turned]:
    with turning() as turned:
        yield turned


def test_what_a_turn_would_deliver_to_who_was_closed_in_it_is_dropped(turned: Turned) -> None:
    one, other = turned.wire(), turned.wire()
    for protocol, victim in ((one, other), (other, one)):
        protocol.on_data = lambda data, victim=victim: victim.transport.abort()  # type: ignore[misc]
    for far in turned.far:
        far.send(b"x")
    turned.turn()
    assert bytes(one.got + other.got) == b"x"
    assert not one.told
    assert not other.told
    turned.settle()
    assert sorted(one.told + other.told) == ["lost"]


def test_who_is_given_away_in_a_turn_keeps_what_it_had_not_read(turned: Turned) -> None:
    one, other = turned.wire(), turned.wire()
    given: list[socket.socket] = []
    for protocol, victim in ((one, other), (other, one)):
        protocol.on_data = lambda data, victim=victim: given.append(  # type: ignore[misc]
            transports.detach(victim.transport)
        )
    for far in turned.far:
        far.send(b"x")
    turned.turn()
    assert bytes(one.got + other.got) == b"x"
    assert given[0].recv(9) == b"x"
    assert len(turned.pump) == 1
    given[0].close()


def test_a_descriptors_next_owner_meets_nothing_of_the_last_one(turned: Turned) -> None:
    last = turned.wire()
    number = last.transport.get_extra_info("socket").fileno()
    turned.far[0].send(b"for the last one")
    last.transport.abort()
    turned.settle()
    following = [turned.wire() for _ in range(3)]
    assert number in [each.transport.get_extra_info("socket").fileno() for each in following]
    assert not turned.due()
    turned.pump.turn()
    assert not any(each.got for each in following)


def test_who_is_paused_costs_no_turns_even_when_its_other_side_is_gone(turned: Turned) -> None:
    one = turned.wire()
    one.transport.pause_reading()
    reset(turned.far[0])
    assert not turned.due()
    one.transport.resume_reading()
    turned.turn()
    turned.settle()
    assert one.told == ["lost"]
    assert not turned.due()


def test_who_stays_at_its_end_of_file_costs_no_turns(turned: Turned) -> None:
    one = turned.wire(stays=True)
    turned.far[0].shutdown(socket.SHUT_WR)
    turned.turn()
    assert one.told == ["eof"]
    assert not turned.due()
    one.transport.pause_reading()
    one.transport.resume_reading()
    assert not turned.due()
    one.transport.close()


def test_who_waits_to_write_costs_no_turns_until_there_is_room(turned: Turned) -> None:
    one = turned.wire()
    one.transport.write(bytes(16 << 20))
    while turned.due():
        turned.pump.turn()
    assert one.told == ["paused"]
    assert one.transport.get_write_buffer_size()
    turned.far[0].close()
    turned.turn()
    turned.settle()
    assert one.told == ["paused", "lost"]


def test_a_turn_is_bounded_and_the_next_ones_serve_the_others(turned: Turned) -> None:
    wires = [turned.wire() for _ in range(3 * BATCH)]
    for far in turned.far:
        far.send(b"x" * 10)
    for number in (1, 2, 3):
        turned.turn()
        assert sum(bool(each.got) for each in wires) == number * BATCH


def test_who_sends_much_gets_one_read_in_a_turn(turned: Turned) -> None:
    greedy, modest = turned.wire(), turned.wire()
    sent = turned.far[0].send(bytes(4 << 20))
    turned.far[1].send(b"x")
    turned.turn()
    assert 0 < len(greedy.got) <= CHUNK < sent
    turned.turn()
    assert modest.got == b"x"


def test_who_speaks_all_the_time_alone_keeps_a_newcomer_waiting_for_a_bounded_time(turned: Turned) -> None:
    talker, newcomer = turned.wire(), turned.wire()
    talker.on_data = lambda data: talker.transport.write(data)
    served = []
    for number in range(100):
        if number == 50:
            turned.far[1].send(b"x")
        turned.far[0].send(b"x")
        turned.turn()
        served.append(bool(newcomer.got))
    assert len(talker.got) >= 95
    assert not any(served[:50])
    assert all(served[50 + CALM :])


@pytest.mark.parametrize("way", ["aborted", "given away", "paused"])
def test_who_would_be_the_next_to_speak_and_leaves_is_asked_no_more(turned: Turned, way: str) -> None:
    talker, other = turned.wire(), turned.wire()
    talker.on_data = lambda data: talker.transport.write(data)
    for _ in range(2 * CALM - 2):
        turned.far[0].send(b"x")
        turned.turn()
    got = bytes(talker.got)
    turned.far[0].send(b"unread")
    if way == "given away":
        transports.detach(talker.transport).close()
    elif way == "aborted":
        talker.transport.abort()
    else:
        talker.transport.pause_reading()
    turned.far[1].send(b"x")
    turned.turn()
    assert talker.got == got
    assert other.got == b"x"
    talker.transport.resume_reading()


def test_there_is_no_turn_inside_a_turn(turned: Turned) -> None:
    one = turned.wire()
    one.on_data = lambda data: turned.pump.turn()
    turned.far[0].send(b"x")
    turned.turn()
    assert [str(each) for each in turned.reports] == ["a turn inside a turn"]


def test_what_must_end_the_process_comes_out_of_the_turn(turned: Turned) -> None:
    one = turned.wire()

    def interrupted(data: bytes) -> None:
        raise KeyboardInterrupt

    one.on_data = interrupted
    turned.far[0].send(b"x")
    with pytest.raises(KeyboardInterrupt):
        turned.turn()
    one.on_data = lambda data: None
    turned.far[0].send(b"y")
    turned.turn()
    assert one.got == b"xy"


def test_what_is_no_bytes_is_refused_and_the_stream_is_whole(turned: Turned) -> None:
    one = turned.wire()
    write: object = one.transport.write
    for wrong in ("text", 7, None):
        with pytest.raises(TypeError):
            write(wrong)  # type: ignore[operator]
    with pytest.raises(TypeError):
        one.transport.writelines(7)  # type: ignore[arg-type]
    one.transport.write(b"right")
    assert turned.far[0].recv(99) == b"right"


@pytest.mark.parametrize("way", ["write", "writelines"])
def test_what_is_no_bytes_behind_something_unsent_is_refused_and_ends_the_stream(
    turned: Turned, way: str
) -> None:
    one = turned.wire()
    one.transport.write(bytes(64 << 20))
    assert one.transport.get_write_buffer_size()
    write: object = getattr(one.transport, way)
    with pytest.raises(TypeError):
        write(["text"] if way == "writelines" else "text")  # type: ignore[operator]
    turned.settle()
    assert one.told[-1] == "lost"
    assert not turned.reports


def test_a_wire_is_made_by_a_pump_only_and_from_a_socket() -> None:
    module = pump_module()
    with pytest.raises(TypeError):
        module.Wire()
    turned = Turned(module)
    with pytest.raises((TypeError, ValueError)):
        turned.pump.adopt("no socket", Noted())
    with pytest.raises(TypeError):
        module.Pump()


def test_a_protocol_that_cannot_begin_loses_its_socket(turned: Turned) -> None:
    class Failing(Noted):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            raise ValueError("not today")

    ours, theirs = tcp_pair()
    protocol = Failing()
    turned.pump.adopt(ours, protocol)
    turned.settle()
    assert protocol.told == ["lost"]
    assert theirs.recv(9) == b""
    assert [str(each) for each in turned.reports] == ["not today"]
    theirs.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_pump_that_nobody_has_any_more_takes_its_sockets_with_it() -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    turned = Turned(pump_module())
    for _ in range(10):
        turned.wire()
    for far in turned.far:
        far.close()
    assert len(os.listdir("/proc/self/fd")) > before
    del turned, far
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_references_are_neither_lost_nor_kept(turned: Turned) -> None:
    data, part = bytes(8 << 20), memoryview(bytes(1 << 20))
    protocol = turned.wire()
    counts = [sys.getrefcount(each) for each in (data, part, protocol, None)]
    for _ in range(50):
        protocol = turned.wire()
        protocol.transport.write(data)
        protocol.transport.writelines([data, part, b"end"])
        turned.far[-1].send(b"x")
        turned.pump.turn()
        protocol.transport.abort()
        turned.settle()
        turned.far.pop().close()
    protocol = turned.wire()
    after = [sys.getrefcount(each) for each in (data, part, protocol, None)]
    assert after[:3] == counts[:3]
    assert abs(after[3] - counts[3]) < 40


@pytest.mark.parametrize("way", ["exchanged", "given away", "closed"])
def test_a_protocol_that_nobody_else_has_lives_until_its_call_returns(turned: Turned, way: str) -> None:
    class Last(Noted):
        def data_received(self, data: bytes) -> None:
            transport, kept = self.transport, Noted()
            del self
            if way == "given away":
                transports.detach(transport).close()
            else:
                transport.set_protocol(kept)
            if way == "closed":
                transport.abort()
                turned.settle()
            seen.append(data)

    seen: list[bytes] = []
    ours, theirs = tcp_pair()
    turned.far.append(theirs)
    turned.pump.adopt(ours, Last())
    for word in (b"one", b"two"):
        theirs.send(word)
        if turned.due():
            turned.turn()
    assert seen == [b"one"]
