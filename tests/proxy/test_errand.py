import pytest

from protocol.errors import ProtocolError, UnexpectedMessage
from proxy.errand import Errand
from proxy.server import Server
from tests.support.playbook import from_backend


def errand() -> Errand:
    return Errand(lambda server, error, now: None)


def nothing(body: bytes) -> None:
    raise AssertionError(f"nothing was to be reported: {body!r}")


def test_a_reply_is_complete_at_its_ready_for_query() -> None:
    one = errand()
    assert not one.feed(from_backend("T", "D 1", "C SELECT 1"), nothing)
    assert one.feed(from_backend("Z I"), nothing)
    assert one.error is None


def test_a_reply_may_come_byte_by_byte() -> None:
    one = errand()
    data = from_backend("N hm", "C SET", "Z I")
    done = [one.feed(data[at : at + 1], nothing) for at in range(len(data))]
    assert done == [False] * (len(data) - 1) + [True]


def test_the_first_error_is_kept_whole() -> None:
    one = errand()
    first = from_backend("E 22023 invalid value")
    assert one.feed(first + from_backend("E XX000 another", "Z I"), nothing)
    assert one.error == first


def test_parameters_are_reported() -> None:
    heard: list[bytes] = []
    assert errand().feed(from_backend("S TimeZone=UTC", "S DateStyle=ISO", "C SET", "Z I"), heard.append)
    assert heard == [b"TimeZone\0UTC\0", b"DateStyle\0ISO\0"]


@pytest.mark.parametrize("reply", [("C BEGIN", "Z T"), ("E 1 x", "Z E")])
def test_a_server_that_is_not_idle_afterwards_is_at_fault(reply: tuple[str | bytes, ...]) -> None:
    with pytest.raises(UnexpectedMessage):
        errand().feed(from_backend(*reply), nothing)


@pytest.mark.parametrize("behind", ["N more", b"N"])
def test_what_comes_behind_a_reply_is_no_part_of_it(behind: str | bytes) -> None:
    one = errand()
    assert one.feed(from_backend("C SET", "Z I", behind), nothing)
    assert one.trailing() == from_backend(behind)
    assert one.trailing() == b""


def test_the_first_row_is_kept() -> None:
    one = errand()
    assert one.feed(from_backend("T", "D 1", "D 2", "C SELECT 2", "Z I"), nothing)
    assert one.row == from_backend("D 1")[5:]
    assert errand().row is None


def test_the_chunk_begins_with_a_message() -> None:
    one = errand()
    data = from_backend("T", "D 1", "C SELECT 1")
    first = len(from_backend("T")) + 3
    one.feed(data[:first], nothing)
    assert one.chunk == data[:first]
    one.feed(data[first:], nothing)
    assert one.chunk == from_backend("D 1", "C SELECT 1")
    one.feed(from_backend("Z I"), nothing)
    assert one.chunk == from_backend("Z I")


@pytest.mark.parametrize("nonsense", [b"W\0\0\0\4", b"Z\0\0\0\6II", b"C\0\0\0\3"])
def test_nonsense_is_a_protocol_error(nonsense: bytes) -> None:
    with pytest.raises(ProtocolError):
        errand().feed(nonsense, nothing)


def test_it_carries_who_is_to_be_told() -> None:
    def done(server: Server, error: bytes | None, now: int) -> None:
        raise NotImplementedError

    assert Errand(done).done is done
