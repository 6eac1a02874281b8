import hashlib
import random
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from protocol.errors import ProtocolError
from proxy.certificates import Certificate, read_certificate
from proxy.tls import RECORD, TlsError, describe
from tests.support.certificates import Authority, Pair, self_signed
from tests.support.tls_ends import (
    End,
    begun,
    carry,
    certificate,
    client_context,
    joined,
    new_server_context,
    records,
    server_context,
    settle,
)

TEXT = bytes(range(256)) * 400
OVERHEAD = 64


def cuttings() -> list[Sequence[int]]:
    """Sizes of pieces, the last one for all the rest."""
    some = random.Random(7)
    odd = [tuple(some.choice((1, 2, 5, 17, 300, 4096)) for _ in range(400)) for _ in range(5)]
    return [(1,), (2,), (5, 1, 7), (13,), (16389,), *odd]


# The handshake.


@pytest.mark.parametrize("cuts", cuttings(), ids=lambda cuts: "-".join(map(str, cuts[:4])))
def test_any_cutting_gives_the_same_bytes(cuts: Sequence[int]) -> None:
    client, server = joined(cuts)
    client.write(TEXT[:5000])
    server.writelines([b"one", memoryview(b"two"), TEXT])
    settle(client, server, cuts)
    assert b"".join(server.received) == TEXT[:5000]
    assert b"".join(client.received) == b"onetwo" + TEXT


def test_both_ends_know_what_they_have_agreed_on() -> None:
    client, server = joined()
    for end in (client, server):
        assert end.tls.version == "TLSv1.3"
        assert end.tls.text == f"TLSv1.3/{end.tls.cipher}"
        assert end.tls.cipher.startswith("TLS_")
        assert end.tls.alpn == "postgresql"
        assert end.told == ["woken"]
    assert client.tls.peer_certificate() == certificate().der
    assert server.tls.peer_certificate() is None


def test_before_the_handshake_nothing_is_known() -> None:
    client, server = begun()
    assert (client.tls.text, server.tls.text) == ("", "")
    assert server.tls.handshaking


def test_bytes_of_the_handshake_that_came_before_are_taken() -> None:
    client, _ = begun()
    server = End(server_context(), True)
    server.tls.begin(client.wire.take())
    settle(client, server)
    assert not server.tls.handshaking


def test_what_comes_with_the_last_of_the_handshake_is_not_lost() -> None:
    client, server = begun()
    carry(client.wire.take(), server, iter([1 << 20]))
    carry(server.wire.take(), client, iter([1 << 20]))
    client.write(b"startup")
    carry(client.wire.take(), server, iter([1 << 20]))
    assert server.received == [b"startup"]
    assert server.told == ["woken"]


def test_before_its_end_nothing_is_written() -> None:
    client, server = begun()
    hello = client.wire.take()
    client.write(b"secret")
    client.writelines([b"secret"])
    client.tls.say_goodbye()
    assert client.wire.take() == b""
    carry(hello, server, iter([1 << 20]))
    server.write(b"secret")
    assert b"secret" not in server.wire.take()


def test_garbage_in_place_of_a_handshake_is_told_by_an_alert_and_no_more() -> None:
    _, server = begun()
    server.tls.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert str(server.tls.failure) == "http request"
    assert server.told == ["woken"]
    sent = server.wire.take()
    assert not sent or sent[0] == 0x15
    server.write(b"more")
    server.tls.data_received(b"more")
    assert server.wire.take() == b""
    assert server.told == ["woken"]


def test_what_the_other_side_has_against_the_handshake_is_said() -> None:
    context = client_context()
    context.verify_mode = ssl.CERT_REQUIRED
    client, server = begun(context)
    settle(client, server)
    assert str(client.tls.failure) == "certificate verify failed: self-signed certificate"
    assert "alert unknown ca" in str(server.tls.failure or server.told[-1])


def test_versions_that_have_nothing_in_common_are_a_failure_of_both() -> None:
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    client, server = begun(context, server_context(version=ssl.TLSVersion.TLSv1_2))
    settle(client, server)
    assert "unsupported protocol" in str(server.tls.failure)
    assert "alert protocol version" in str(client.tls.failure)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_taken_up_again(version: ssl.TLSVersion) -> None:
    context = client_context()
    context.maximum_version = version
    first, server = begun(context)
    settle(first, server)
    assert (first.tls.resumed, server.tls.resumed) == (False, False)
    again, other = taken_up(first, context, server_context())
    assert (again.tls.resumed, other.tls.resumed) == (True, True)


def taken_up(first: End, context: ssl.SSLContext, server: ssl.SSLContext) -> tuple[End, End]:
    """A client that offers the session it had, and the server."""
    ours = first.tls._object
    assert ours is not None
    again = End(context, False)
    again.tls._object.session = ours.session  # type: ignore[union-attr]
    other = End(server, True)
    other.tls.begin(b"")
    again.tls.begin(b"")
    settle(again, other)
    return again, other


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_whose_certificate_expires_takes_no_session_up(
    version: ssl.TLSVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    files = authority.client("alice").write(tmp_path, "alice")
    context = client_context()
    context.maximum_version = version
    context.load_cert_chain(files.certificate, files.key)
    server = new_server_context(certificate())
    server.load_verify_locations(cadata=authority.pem.decode())
    server.verify_mode = ssl.CERT_REQUIRED
    first, other = begun(context, server)
    settle(first, other)
    _, other = taken_up(first, context, server)
    assert (other.tls.resumed, other.tls.failure) == (True, None)
    monkeypatch.setattr(
        "proxy.tls.time", lambda: read_certificate(other.tls.peer_certificate() or b"").expires
    )
    _, other = taken_up(first, context, server)
    assert str(other.tls.failure) == "certificate verify failed: certificate has expired"
    assert other.told == ["woken"]

    def unreadable(der: bytes) -> Certificate:
        raise ValueError("cannot be read")

    monkeypatch.setattr("proxy.tls.read_certificate", unreadable)
    _, other = taken_up(first, context, server)
    assert str(other.tls.failure) == "certificate verify failed: cannot be read"


# Receiving.


@pytest.mark.parametrize("size", [1, RECORD, RECORD + 1, 200_000])
def test_a_chunk_is_one_call_of_the_receiver(size: int) -> None:
    client, server = joined()
    server.write(b"x" * size)
    client.tls.data_received(server.wire.take())
    assert client.received == [b"x" * size]


def test_a_record_that_is_not_whole_yet_is_no_call() -> None:
    client, server = joined()
    server.write(b"x" * 100)
    record = server.wire.take()
    client.tls.data_received(record[:-1])
    assert client.received == []
    client.tls.data_received(record[-1:])
    assert client.received == [b"x" * 100]


def test_what_a_receiver_raises_is_told_to_the_owner() -> None:
    client, server = joined()
    error = ProtocolError("bad")

    def receive(data: bytes, now: int) -> None:
        raise error

    client.receiver = receive
    server.write(b"x")
    client.tls.data_received(server.wire.take())
    assert client.told == ["woken", error]


def test_a_changed_record_ends_it_behind_what_was_whole() -> None:
    client, server = joined()
    server.write(b"whole")
    server.write(b"changed")
    stream = bytearray(server.wire.take())
    stream[-1] ^= 1
    client.tls.data_received(bytes(stream))
    assert client.received == [b"whole"]
    (error,) = client.told[1:]
    assert isinstance(error, ProtocolError)
    assert error.message == "TLS error: decryption failed or bad record mac"
    assert client.wire.take()[0] in (0x15, 0x17)
    client.write(b"more")
    client.tls.data_received(b"more")
    assert client.wire.take() == b""
    assert len(client.told) == 2


def test_bytes_in_the_clear_are_no_record() -> None:
    _, server = joined()
    server.tls.data_received(b"Q\0\0\0\x0dselect 1\0")
    assert server.received == []
    assert isinstance(server.told[-1], ProtocolError)


# Writing.


@pytest.mark.parametrize("size", [1, 5000, RECORD, RECORD + 1, 100_000])
def test_one_write_is_one_write_of_records_that_libpq_has_room_for(size: int) -> None:
    _, server = joined()
    before = len(server.wire.writes)
    server.write(b"x" * size)
    assert len(server.wire.writes) == before + 1
    lengths = records(server.wire.writes[-1])
    assert len(lengths) == -(-size // RECORD)
    assert max(lengths) <= RECORD + OVERHEAD


def test_small_parts_share_a_record() -> None:
    client, server = joined()
    server.writelines([b"a", b"b" * 100, memoryview(b"c")])
    assert len(records(server.wire.writes[-1])) == 1
    settle(client, server)
    assert client.received == [b"a" + b"b" * 100 + b"c"]


def test_nothing_is_no_record() -> None:
    _, server = joined()
    before = len(server.wire.writes)
    server.write(b"")
    server.writelines([])
    assert len(server.wire.writes) == before


def test_full_and_empty_transports_are_told() -> None:
    client, _ = joined()
    client.tls.pause_writing()
    client.tls.resume_writing()
    assert client.told[1:] == ["paused", "resumed"]


def test_who_makes_us_answer_without_reading_is_cut_off() -> None:
    client, server = begun()
    server.wire.unsent = 2_000_000
    server.tls.data_received(client.wire.take())
    assert str(server.tls.failure) == "the other side does not read what it asks for"


# The end.


def test_goodbye_is_an_alert_and_is_answered() -> None:
    client, server = joined()
    client.write(b"last words")
    client.tls.say_goodbye()
    client.write(b"too late")
    settle(client, server)
    assert server.received == [b"last words"]
    assert server.wire.closed
    assert client.wire.closed
    assert server.told == client.told == ["woken"]


def test_after_our_goodbye_the_other_side_may_go_on() -> None:
    client, server = joined()
    client.tls.say_goodbye()
    client.tls.say_goodbye()
    client.wire.take()
    server.write(b"still here")
    client.tls.data_received(server.wire.take())
    assert client.received == [b"still here"]


def test_a_lost_connection_gives_back_its_memory_and_writes_no_more() -> None:
    client, _ = joined()
    before = len(client.wire.writes)
    client.tls.connection_lost(None)
    client.write(b"x")
    client.writelines([b"x"])
    client.tls.say_goodbye()
    client.tls.data_received(b"x")
    assert len(client.wire.writes) == before
    assert client.told == ["woken", "lost"]
    assert client.tls.peer_certificate() is None
    assert client.tls.text.startswith("TLSv1.3/")


def test_a_handshake_that_is_cut_off_is_a_lost_connection() -> None:
    client, server = begun()
    server.tls.data_received(client.wire.take()[:20])
    server.tls.connection_lost(None)
    assert server.told == ["lost"]
    assert server.tls.failure is None


# Channel binding.


def binding_of(pair: Pair) -> tuple[bytes | None, bytes | None]:
    context = new_server_context(pair)
    client, server = joined(server=context)
    return client.tls.binding(), server.tls.binding()


def test_both_ends_bind_to_the_hash_of_the_servers_certificate() -> None:
    pair = self_signed(kind="rsa")
    expected = hashlib.sha256(pair.der).digest()
    assert binding_of(pair) == (expected, expected)


def test_a_signature_without_a_hash_binds_to_nothing() -> None:
    assert binding_of(self_signed(kind="ed25519")) == (None, None)


def test_a_context_that_does_not_know_its_certificate_binds_to_nothing() -> None:
    context = new_server_context(certificate())
    context.certificate = None
    assert joined(server=context)[1].tls.binding() is None


# Words.


def test_errors_without_a_reason_are_told_by_their_text() -> None:
    with pytest.raises(ssl.SSLError) as caught:
        client_context().set_ciphers("nonsense")
    assert describe(caught.value) == "No cipher can be selected."
    assert describe(TlsError("gone")) == "gone"
