"""What every transport does, be it the loop's or the pump's: the same tests for both."""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from proxy import transports
from proxy.connection import Connection
from tests.support.pump import pump_module
from tests.support.rig import eventually
from tests.support.sockets import Noted, receive, reset, rest, tcp_pair

LONG = bytes(range(256)) * 4096 * 8
Made = tuple[Noted, socket.socket]
Make = Callable[..., Awaitable[Made]]


@pytest.fixture(params=["loop", "pump"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose transports: a test that takes this runs with both."""
    pump = request.param == "pump"
    if pump:
        monkeypatch.setitem(sys.modules, "proxy.pump", pump_module())
    monkeypatch.setattr(transports, "is_pump_built", lambda: pump)
    return str(request.param)


@pytest.fixture
async def make(kind: str) -> AsyncIterator[Make]:
    """Makes a protocol with its transport, and the far side of it."""
    made: list[Made] = []

    async def make(*, stays: bool = False) -> Made:
        ours, theirs = tcp_pair()
        protocol = Noted(stays=stays)
        await transports.adopt(ours, protocol)
        assert type(protocol.transport).__module__.startswith("proxy" if kind == "pump" else "uvloop")
        made.append((protocol, theirs))
        return made[-1]

    yield make
    for protocol, theirs in made:
        protocol.transport.abort()
        theirs.close()
    await eventually(lambda: all(one.lost or one.replaced for one, _ in made))


async def test_a_message_cut_at_every_byte_arrives(make: Make) -> None:
    one, far = await make()
    for byte in LONG[:300]:
        before = len(one.got)
        far.send(bytes([byte]))
        await eventually(lambda before=before: len(one.got) > before)  # type: ignore[misc]
    assert one.got == LONG[:300]


async def test_whatever_is_written_arrives_in_order(make: Make) -> None:
    one, far = await make()
    one.transport.write(b"a")
    one.transport.write(b"")
    one.transport.write(memoryview(b"-bc-")[1:3])
    one.transport.writelines([])
    one.transport.writelines([b"d", b"", memoryview(b"e"), bytearray(b"f")])
    one.transport.writelines([b"%d," % number for number in range(1000)])
    expected = b"abcdef" + b"".join(b"%d," % number for number in range(1000))
    assert await receive(far, len(expected)) == expected
    assert one.transport.get_write_buffer_size() == 0


async def test_a_huge_write_pauses_the_writer_once_and_arrives_whole(make: Make) -> None:
    one, far = await make()
    one.transport.write(LONG)
    await eventually(lambda: one.told == ["paused"])
    unsent = one.transport.get_write_buffer_size()
    assert 0 < unsent <= len(LONG)
    one.transport.writelines([b"x" * 70_000] * 200)
    one.transport.write(memoryview(b"-end-")[1:4])
    assert await receive(far, len(LONG)) == LONG
    assert await receive(far, 14_000_003) == b"x" * 14_000_000 + b"end"
    await one.until("paused", "resumed")
    assert one.transport.get_write_buffer_size() == 0


async def test_many_pieces_that_the_other_side_takes_slowly_arrive_in_order(make: Make) -> None:
    one, far = await make()
    pieces = [b"%07d" % number for number in range(200_000)]
    whole = b"".join(pieces)
    one.transport.write(LONG)
    for at in range(0, len(pieces), 1000):
        one.transport.writelines(pieces[at : at + 1000])
    assert await receive(far, len(LONG)) == LONG
    assert b"".join([await receive(far, 14_000) for _ in range(100)]) == whole


async def test_what_is_written_when_writing_resumes_comes_behind_the_rest(make: Make) -> None:
    one, far = await make()
    one.on_resume = lambda: one.transport.write(b"more")
    one.transport.write(LONG)
    await eventually(lambda: one.told == ["paused"])
    assert await receive(far, len(LONG) + 4) == LONG + b"more"


async def test_a_reader_that_is_paused_hears_nothing_until_it_reads_on(make: Make) -> None:
    one, far = await make()
    one.transport.pause_reading()
    far.send(b"late")
    other, far_other = await make()
    far_other.send(b"now")
    await eventually(lambda: other.got == b"now")
    assert not one.got
    one.transport.resume_reading()
    await eventually(lambda: one.got == b"late")


async def test_reading_may_be_paused_and_resumed_while_data_is_received(make: Make) -> None:
    one, far = await make()

    def pause(data: bytes) -> None:
        one.transport.pause_reading()
        one.transport.resume_reading()
        one.transport.pause_reading()

    one.on_data = pause
    far.send(b"first")
    await eventually(lambda: one.got == b"first")
    far.send(b"second")
    other, far_other = await make()
    far_other.send(b"now")
    await eventually(lambda: other.got)
    assert one.got == b"first"
    one.on_data = lambda data: None
    one.transport.resume_reading()
    await eventually(lambda: one.got == b"firstsecond")


async def test_an_answer_written_while_data_is_received_goes_out(make: Make) -> None:
    one, far = await make()
    one.on_data = one_writes = lambda data: one.transport.write(data.upper())
    assert one_writes is one.on_data
    far.send(b"hello")
    assert await receive(far, 5) == b"HELLO"


async def test_an_end_of_file_closes_once_all_is_sent(make: Make) -> None:
    one, far = await make()
    one.transport.write(LONG)
    far.shutdown(socket.SHUT_WR)
    await eventually(lambda: "eof" in one.told)
    assert one.transport.is_closing()
    assert await rest(far) == LONG
    await eventually(lambda: one.lost)
    assert one.error is None


async def test_who_stays_at_the_end_of_file_can_still_write(make: Make) -> None:
    one, far = await make(stays=True)
    far.shutdown(socket.SHUT_WR)
    await one.until("eof")
    one.transport.write(b"bye")
    assert await receive(far, 3) == b"bye"
    one.transport.close()
    await one.until("eof", "lost")


async def test_what_came_ahead_of_an_end_of_file_is_received(make: Make) -> None:
    one, far = await make()
    one.transport.pause_reading()
    far.send(b"last words")
    far.close()
    one.transport.resume_reading()
    await eventually(lambda: one.lost)
    assert one.got == b"last words"
    assert one.told == ["eof", "lost"]


async def test_our_end_of_file_comes_behind_what_is_unsent_and_leaves_us_listening(make: Make) -> None:
    one, far = await make()
    assert one.transport.can_write_eof()
    one.transport.write(LONG)
    one.transport.write_eof()
    with pytest.raises(RuntimeError):
        one.transport.write(b"more")
    assert await rest(far) == LONG
    far.send(b"answer")
    await eventually(lambda: one.got == b"answer")
    far.close()
    await eventually(lambda: one.lost)


async def test_closing_sends_all_and_is_told_once_and_later(make: Make) -> None:
    one, far = await make()
    one.transport.write(LONG)
    one.transport.close()
    one.transport.close()
    assert one.transport.is_closing()
    assert await rest(far) == LONG
    await eventually(lambda: one.lost)
    assert one.told == ["paused", "resumed", "lost"]
    assert one.error is None


async def test_an_abort_sends_nothing_more_and_is_told_once_and_later(make: Make) -> None:
    one, far = await make()
    one.transport.write(LONG)
    await eventually(lambda: one.told == ["paused"])
    one.transport.abort()
    one.transport.abort()
    one.transport.write(b"ignored")
    assert one.told == ["paused"]
    await one.until("paused", "lost")
    assert one.error is None
    assert len(await rest(far)) < len(LONG)


async def test_an_abort_with_bytes_unread_resets_the_connection(make: Make) -> None:
    one, far = await make()
    one.transport.pause_reading()
    far.send(b"unread")
    one.transport.abort()
    await one.until("lost")
    with pytest.raises(ConnectionResetError):
        await rest(far)


async def test_a_reset_by_the_other_side_is_told(make: Make) -> None:
    one, far = await make()
    reset(far)
    await one.until("lost")
    assert isinstance(one.error, ConnectionResetError)


async def test_writing_to_who_is_gone_is_told_and_then_ignored(make: Make) -> None:
    one, far = await make()
    one.transport.pause_reading()
    reset(far)

    def told() -> bool:
        if not one.lost:
            one.transport.write(b"x")
        return one.lost

    await eventually(told)
    assert isinstance(one.error, (BrokenPipeError, ConnectionResetError))
    assert one.told == ["lost"]


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_who_closes_while_data_is_received_receives_no_more(make: Make, how: str) -> None:
    one, far = await make()
    one.on_data = lambda data: getattr(one.transport, how)()
    far.send(b"x" * 1_000)
    await eventually(lambda: one.got)
    got = bytes(one.got)
    await one.until("lost")
    assert bytes(one.got) == got


async def test_a_protocol_that_raises_loses_its_connection_and_no_other(make: Make) -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: reports.append(about["exception"]))
    one, far = await make()
    other, far_other = await make()
    trouble = ValueError("trouble")

    def fail(data: bytes) -> None:
        raise trouble

    one.on_data = fail
    far.send(b"x")
    await eventually(lambda: one.lost)
    assert reports == [trouble]
    far_other.send(b"fine")
    await eventually(lambda: other.got == b"fine")


async def test_another_protocol_takes_over(make: Make) -> None:
    one, far = await make()
    heir = Noted()
    one.transport.set_protocol(heir)
    one.replaced = True
    far.send(b"to the heir")
    await eventually(lambda: heir.got == b"to the heir")
    one.transport.close()
    await eventually(lambda: heir.lost)
    assert not one.told


async def test_a_transport_tells_its_addresses_and_shows_its_socket(make: Make) -> None:
    one, far = await make()
    assert one.transport.get_extra_info("peername")[:2] == far.getsockname()[:2]
    assert one.transport.get_extra_info("sockname")[:2] == far.getpeername()[:2]
    assert one.transport.get_extra_info("nothing", 7) == 7
    sock = one.transport.get_extra_info("socket")
    assert sock.family == socket.AF_INET
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_connection_gives_its_socket_away_with_what_was_not_read(make: Make, kind: str) -> None:
    ours, far = tcp_pair()
    owner = Owner()
    await transports.adopt(ours, owner.connection)
    far.send(b"early")
    await eventually(lambda: owner.connection.heard)
    owner.connection.pause_reading()
    far.send(b"unread")
    sock = owner.connection.detach()
    assert owner.connection.closed
    heir = Noted()
    await transports.adopt(sock, heir)
    await eventually(lambda: heir.got == b"unread")
    heir.transport.write(b"answer")
    assert await receive(far, 6) == b"answer"
    assert not owner.told
    heir.transport.abort()
    await eventually(lambda: heir.lost)
    far.close()


async def test_a_connection_with_something_unsent_is_not_given_away(make: Make) -> None:
    ours, far = tcp_pair()
    owner = Owner()
    await transports.adopt(ours, owner.connection)
    owner.connection.write(LONG)
    await eventually(owner.connection.unsent)
    with pytest.raises(RuntimeError, match="nothing unsent"):
        owner.connection.detach()
    owner.connection.abort()
    await eventually(lambda: owner.told == ["lost"])
    with pytest.raises(RuntimeError, match="open connection"):
        owner.connection.detach()
    far.close()


class Owner:
    """Of a connection; notes its end."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.connection = Connection(self)

    def connected(self) -> None: ...
    def writing_paused(self) -> None: ...
    def writing_resumed(self) -> None: ...
    def failed(self, error: Exception) -> None: ...

    def lost(self) -> None:
        self.told.append("lost")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
async def test_who_dials_reaches_who_listens(kind: str, family: socket.AddressFamily, tmp_path: Path) -> None:
    listening = socket.socket(family)
    tcp = ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0)
    listening.bind(str(tmp_path / "door") if family == socket.AF_UNIX else tcp)
    accepted: list[Noted] = []

    def accept() -> Noted:
        accepted.append(Noted())
        return accepted[-1]

    doors = await transports.serve(accept, listening, 16)
    name = listening.getsockname()
    callers = [Noted() for _ in range(9)]
    for caller in callers:
        if family == socket.AF_UNIX:
            await transports.connect_unix(caller, name)
        else:
            await transports.connect(caller, *name[:2])
        caller.transport.write(b"hello")
    await eventually(lambda: [bytes(one.got) for one in accepted] == [b"hello"] * 9)
    doors.close()
    doors.close()
    listening.close()
    for caller in callers:
        caller.transport.close()
    await eventually(lambda: all(one.lost for one in accepted + callers))


async def test_a_refusal_is_told_in_the_systems_words(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionRefusedError, match=os.strerror(errno.ECONNREFUSED)):
        await transports.connect(Noted(), "127.0.0.1", port)
    with pytest.raises(FileNotFoundError):
        await transports.connect_unix(Noted(), "/nowhere/at/all")
