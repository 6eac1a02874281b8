"""What is fuzzed: a function for each reader, which raises AssertionError where a promise is broken.

Law: a target takes any bytes; an exception other than AssertionError is a broken promise as well.
"""

import dataclasses
from collections.abc import Callable
from contextlib import suppress

from protocol import backend, frontend, rename, startup, tags, wire
from protocol.errors import ProtocolError
from protocol.framer import Collector, Framer
from protocol.looks import (
    BACKEND,
    BACKEND_CAPS,
    BACKEND_LOOK,
    FRONTEND_CAPS,
    FRONTEND_LOOK,
    FRONTEND_LOOK_COPY,
    FRONTEND_LOOK_IDLE,
    LOGIN_CAPS,
    SERVER_LOGIN_CAPS,
    frontend_caps,
)
from protocol.messages import Message
from protocol.scram import ScramClient, ScramKeys, ScramServer, ScramVerifier
from protocol.secret import parse_secret
from proxy.deallocate import deallocated, may_be
from tests.conformance.fuzz.source import Source, body, cut, stream

Target = Callable[[bytes], None]

FRONTEND = frontend_caps()
CLIENT_TAGS = sorted(FRONTEND_CAPS)
SERVER_TAGS = sorted(BACKEND_CAPS)

SALT, NONCE = b"0123456789abcdef", "fyko+d2lbbFgONRv9qkxdawL"
KEYS = ScramKeys.of(bytes(32), SALT, 4096)

TARGETS: dict[str, Target] = {}


def target(name: str) -> Callable[[Target], Target]:
    """Lists a function under this name."""

    def listed(function: Target) -> Target:
        TARGETS[name] = function
        return function

    return listed


# --- streams ---------------------------------------------------------------------------------------------

Report = tuple[int, int, int]
Error = tuple[type[ProtocolError], str]


def framed(
    look: tuple[int, ...], caps: tuple[int, ...], pieces: list[bytes]
) -> tuple[tuple[list[Report], Error | None], bytes]:
    """What a framer reports (tag, start and stop in the stream) and with which error it ends; then what it
    lets pass.
    """
    framer, reported, passed = Framer(look, caps), list[Report](), bytearray()
    error: Error | None = None
    try:
        for piece in [*pieces, b""]:
            at = len(passed)
            reported += [(tag, at + start, at + stop) for tag, start, stop in framer.feed(piece)]
            assert 0 <= framer.lead <= framer.end <= len(framer.buffer)
            passed += framer.buffer[: framer.end]
    except ProtocolError as broken:
        error = type(broken), broken.sqlstate
    return (reported, error), bytes(passed)


def check_framer(look: tuple[int, ...], caps: tuple[int, ...], known: list[int], data: bytes) -> None:
    source = Source(data)
    sizes = [1 + source.number(64) for _ in range(3)]
    sent = stream(source, known)
    whole, passed = framed(look, caps, [sent])
    for pieces in ([sent[at : at + 1] for at in range(len(sent))], [*cut(sent, sizes)]):
        again, passed_again = framed(look, caps, pieces)
        assert again == whole, f"{again} for pieces, {whole} for the whole"
        assert sent.startswith(passed_again), "bytes pass that were never sent"
        # What came together with an error need not be passed on.
        assert passed == passed_again or whole[1], f"{passed!r} for the whole, {passed_again!r} for pieces"


@target("framer: a client with a server")
def framer_with_server(data: bytes) -> None:
    check_framer(FRONTEND_LOOK, FRONTEND, CLIENT_TAGS, data)


@target("framer: a client without a server")
def framer_without_server(data: bytes) -> None:
    check_framer(FRONTEND_LOOK_IDLE, FRONTEND, CLIENT_TAGS, data)


@target("framer: a client in COPY")
def framer_in_copy(data: bytes) -> None:
    check_framer(FRONTEND_LOOK_COPY, FRONTEND, CLIENT_TAGS, data)


@target("framer: a server")
def framer_of_server(data: bytes) -> None:
    check_framer(BACKEND_LOOK, BACKEND, SERVER_TAGS, data)


def collected(caps: tuple[int, ...], pieces: list[bytes]) -> object:
    """What a collector makes of the pieces: messages, and the error or the rest at their end."""
    collector, found = Collector(caps), list[tuple[int, bytes]]()
    try:
        for piece in pieces:
            collector.feed(piece)
            while (message := collector.next()) is not None:
                found.append(message)
    except ProtocolError as broken:
        return found, type(broken), broken.sqlstate
    return found, collector.rest()


@target("collector")
def collector(data: bytes) -> None:
    """Logins on both sides, and the console."""
    source = Source(data)
    caps = (LOGIN_CAPS, SERVER_LOGIN_CAPS, frontend_caps(1 << 20))[source.number(3)]
    sizes = [1 + source.number(64) for _ in range(3)]
    sent = stream(source, [tag for tag in range(256) if caps[tag]])
    whole = collected(caps, [sent])
    for pieces in ([sent[at : at + 1] for at in range(len(sent))], [*cut(sent, sizes)]):
        assert collected(caps, pieces) == whole


# --- messages ----------------------------------------------------------------------------------------------


def check_message(decode: Callable[[int, bytes], Message], tag: int, content: bytes) -> None:
    """What can be read can be written, and reads the same again."""
    try:
        message = decode(tag, content)
    except ProtocolError:
        return
    repr(message)
    written = message.encode()
    assert written[0] == tag
    assert int.from_bytes(written[1:5], "big") == len(written) - 1
    assert decode(tag, written[5:]) == message


@target("messages of a frontend")
def frontend_messages(data: bytes) -> None:
    source = Source(data)
    known = [*sorted(frontend.MESSAGES), source.number(256)]
    check_message(frontend.decode, known[source.number(len(known))], body(source))


@target("messages of a backend")
def backend_messages(data: bytes) -> None:
    source = Source(data)
    known = [tags.AUTHENTICATION, *sorted(backend.MESSAGES), source.number(256)]
    check_message(backend.decode, known[source.number(len(known))], body(source))


@target("passwords")
def passwords(data: bytes) -> None:
    """The four messages that share a tag."""
    source = Source(data)
    kinds = (
        frontend.PasswordMessage,
        frontend.SASLInitialResponse,
        frontend.SASLResponse,
        frontend.GSSResponse,
    )
    kind = kinds[source.number(len(kinds))]
    check_message(lambda _, content: kind.decode(content), tags.PASSWORD, body(source))


@target("startup")
def startup_packets(data: bytes) -> None:
    """With the length as it comes, and with a right one."""
    for packet in (data, (len(data) + 4).to_bytes(4, "big") + data):
        try:
            length = startup.packet_length(packet)
            if length is None or length > len(packet):
                continue
            read = startup.parse_startup(packet[:length])
        except ProtocolError:
            continue
        repr(read)
        match read:
            case startup.Startup(version, parameters) if read.major == 3:
                assert startup.parse_startup(startup.encode_startup(parameters, version)) == read
            case startup.CancelRequest(pid, secret):
                assert startup.encode_cancel_request(pid, secret) == packet[:length]


@target("startup: options")
def startup_options(data: bytes) -> None:
    with suppress(ProtocolError):
        for name, _ in startup.parse_options(data):
            assert name
            assert b"-" not in name


# --- passwords ----------------------------------------------------------------------------------------------


@target("SCRAM: what a client says")
def scram_server(data: bytes) -> None:
    """A percent sign in the second message stands for the nonce that the server made."""
    source = Source(data)
    bound = source.number(3)
    server = ScramServer(SALT, 4096, nonce=NONCE, binding=b"hash" if bound else None, plus=bound == 2)
    with suppress(ProtocolError):
        first = server.first(source.part())
        nonce = first.partition(b"r=")[2].partition(b",")[0]
        server.final(source.rest().replace(b"%", nonce))
        assert server.keys(KEYS.verifier()) is None, "a proof was guessed"


@target("SCRAM: what a server says")
def scram_client(data: bytes) -> None:
    """A percent sign in the first message stands for the nonce that the client made."""
    source = Source(data)
    client = ScramClient(nonce=NONCE)
    with suppress(ProtocolError):
        salt, iterations = client.challenge(source.part().replace(b"%", NONCE.encode()))
        assert salt
        assert 1 <= iterations <= 100_000
        client.final(KEYS)
        client.verify(source.rest())
        raise AssertionError("a signature was guessed")


@target("stored secrets")
def secrets(data: bytes) -> None:
    """A line of a file of ours: what is no secret is a ValueError, as the reader of the file expects."""
    with suppress(ValueError):
        secret = parse_secret(data)
        if isinstance(secret, ScramVerifier):
            assert secret.format() == data


# --- names of prepared statements ---------------------------------------------------------------------------


@target("names of statements")
def names(data: bytes) -> None:
    """Another name changes the name, and nothing else."""
    source = Source(data)
    tag = (tags.BIND, tags.DESCRIBE, tags.CLOSE)[source.number(3)]
    new, before = source.part().replace(b"\0", b""), source.part()
    sent = before + wire.message(tag, body(source))
    start, stop = len(before), len(sent)
    at = rename.name_at(sent, start, stop)
    name_stop = sent.find(b"\0", at, stop) if at >= 0 else -1
    if name_stop < 0:
        return
    written = rename.renamed(sent, start, stop, at, name_stop, new) + sent[name_stop:stop]
    assert int.from_bytes(written[1:5], "big") == len(written) - 1
    with suppress(ProtocolError):
        old, changed = frontend.decode(tag, sent[start + 5 : stop]), frontend.decode(tag, written[5:])
        match old:
            case frontend.Bind():
                expected: Message = dataclasses.replace(old, statement=new)
            case frontend.Describe() | frontend.Close():
                expected = dataclasses.replace(old, name=new)
        assert changed == expected


@target("shapes of rows")
def shapes(data: bytes) -> None:
    """What is not the body of a RowDescription comes back as it is."""
    content = body(Source(data))
    made = rename.shape(content)
    with suppress(ProtocolError):
        columns = backend.RowDescription.decode(content).fields
        assert made.count(b";") >= len(columns)


@target("names in errors")
def names_in_errors(data: bytes) -> None:
    source = Source(data)
    old, new = source.part() or b"x", source.part()
    message = wire.message(tags.ERROR_RESPONSE, source.rest())
    written = rename.replaced_in_error(message, 0, len(message), len(message), old, new)
    assert int.from_bytes(written[1:5], "big") == len(written) - 1


@target("DEALLOCATE")
def deallocate(data: bytes) -> None:
    """Whatever the text, the answer comes at once (the fuzzer has a limit of time for each input)."""
    text = b"%b\0" % data.replace(b"\0", b"")
    name = deallocated(text)
    if name is not None:
        assert may_be(text[0])
        assert b"deallocate" in text.lower()
        quoted = b'deallocate "%b"\0' % name.replace(b'"', b'""')
        assert deallocated(quoted) == name


# --- the proof that it can fail ---------------------------------------------------------------------------


@target("planted fault")
def planted(data: bytes) -> None:
    """Not part of a run unless it is named: a fault behind a right count and right lengths."""
    with suppress(ProtocolError):
        if None in backend.DataRow.decode(body(Source(data))).values:
            raise IndexError("the planted fault")


PLANTED = "planted fault"
EVERY = [name for name in TARGETS if name != PLANTED]
