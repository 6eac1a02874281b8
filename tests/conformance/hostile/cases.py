"""What a hostile server does on purpose, case by case.

Law: a case says what becomes of the victim where there is only one right
answer: 08P01 for a reply that nobody asked for.
"""

from collections.abc import Callable, Iterator, Mapping

from tests.conformance.hostile import scram
from tests.conformance.hostile.host import Aftermath, Alter, Attack, Login, instead
from tests.conformance.hostile.play import BY_NAME, Play
from tests.support import messages as m
from tests.support.script import Conversation

VIOLATION = frozenset({"08P01"})
TOO_LARGE = frozenset({"54000"})
LOST = frozenset({"08006"})
TIMED_OUT = frozenset({"57014"})
UNSUPPORTED = frozenset({"28000"})
BY_SCRAM = frozenset({"28000", "28P01", "08P01"})
ENDED = frozenset({"57P01"})
BARE = frozenset({""})

T, D = m.row_description(["stray"]), m.data_row(["stray"])
C, Z = m.command_complete("SELECT 1"), m.ready_for_query()
GOOD = T + D + C + Z
ONE, TWO, THREE = (m.message(tag) for tag in (b"1", b"2", b"3"))
NOTICE = m.error_response("00000", "stray", severity="NOTICE", tag=b"N")
GONE = m.error_response("26000", 'prepared statement "x" does not exist')
CHANGED = m.error_response("0A000", "cached plan must not change result type")
ERROR = m.error_response("XX000", "stray")
FATAL = m.error_response("57P01", "stray", severity="FATAL")
COPY_IN = m.message(b"G", b"\0\0\0")

MANY = 3000
"""Messages."""

Wanted = frozenset[str]
ANY: Wanted = frozenset()

SIMPLE: Mapping[str, tuple[bytes, Wanted]] = {
    "a length of zero": (m.message_claiming(b"T", 0), VIOLATION),
    "a length of three": (m.message_claiming(b"T", 3), VIOLATION),
    "a row of a length of three": (T + m.message_claiming(b"D", 3), VIOLATION),
    "a row of a negative length": (T + m.message_claiming(b"D", -1), VIOLATION),
    "a row of two gibibytes": (T + m.message_claiming(b"D", 0x7FFFFFFF), VIOLATION),
    "an error of two gibibytes": (m.message_claiming(b"E", 0x7FFFFFFF), VIOLATION),
    "a parameter of a gibibyte": (m.message_claiming(b"S", 0x3FFFFFFF), VIOLATION),
    "a long ReadyForQuery": (m.message(b"Z", b"II"), VIOLATION),
    "a ReadyForQuery without status": (T + C + m.message(b"Z"), VIOLATION),
    "an unknown transaction status": (T + D + C + m.ready_for_query(b"?"), VIOLATION),
    "an unknown type": (m.message(b"~") + GOOD, VIOLATION),
    "a type of zero": (m.message(b"\0") + GOOD, VIOLATION),
    "not the protocol": (b"HTTP/1.1 400 Bad Request\r\n\r\n", VIOLATION),
    "a second authentication": (m.authentication(3) + GOOD, VIOLATION),
    "a second key": (m.backend_key_data(1, b"abcd") + GOOD, VIOLATION),
    "a second negotiation": (m.message(b"v", m.int32(0) * 2) + GOOD, VIOLATION),
    "a request of a client": (m.query("select 1") + GOOD, VIOLATION),
    "COPY in both directions": (m.message(b"W", b"\0\0\0"), VIOLATION),
    "ParseComplete for a simple query": (ONE + GOOD, VIOLATION),
    "BindComplete for a simple query": (T + TWO + D + C + Z, VIOLATION),
    "CloseComplete for a simple query": (T + D + C + THREE + Z, VIOLATION),
    "NoData for a simple query": (m.message(b"n") + C + Z, VIOLATION),
    "PortalSuspended for a simple query": (T + D + m.message(b"s") + Z, VIOLATION),
    "ParameterDescription for a simple query": (m.message(b"t", b"\0\0") + GOOD, VIOLATION),
    "a function's result for a simple query": (m.message(b"V", m.int32(-1)) + Z, VIOLATION),
    "a CommandComplete without tag": (T + D + m.message(b"C") + Z, VIOLATION),
    "a parameter without value": (m.message(b"S", b"x") + GOOD, ANY),
    "a parameter of no bytes": (m.message(b"S") + GOOD, ANY),
    "a notification of no bytes": (m.message(b"A") + GOOD, ANY),
    "an error without fields": (m.message(b"E", b"\0") + Z, BARE),
    "an error of no bytes": (m.message(b"E") + Z, BARE),
    "an error without SQLSTATE": (m.message(b"E", b"SERROR\0Mjust no\0\0") + Z, BARE),
    "an error without end": (m.message(b"E", b"SERROR\0Mjust no") + Z, BARE),
    "a row of 65,535 values and none": (T + m.message(b"D", b"\xff\xff") + C + Z, ANY),
    "two rows' descriptions": (T + T + D + C + Z, ANY),
    "no ReadyForQuery": (T + D + C, TIMED_OUT),
    "nothing": (b"", TIMED_OUT),
    "a notification for another": (m.message(b"A", m.int32(1) + b"a\0b\0") + GOOD, ANY),
    "an endless flood of notices": (NOTICE * MANY + GOOD, ANY),
}
"""Replies to a simple query, and the SQLSTATEs that the victim may end with."""

BEHIND: Mapping[str, bytes] = {
    "one ReadyForQuery too many": Z,
    "one reply too many": GOOD,
    "a row behind the end": D,
    "half a message behind the end": D[:-1],
    "one byte behind the end": b"D",
    "an unknown type behind the end": m.message(b"~"),
    "an error behind the end": ERROR + Z,
    "a fatal error behind the end": FATAL,
    "COPY behind the end": COPY_IN,
    "ParseComplete behind the end": ONE,
}
"""What follows a good reply: the victim does not hear of it, and nobody else."""

EXTENDED: Mapping[str, bytes] = {
    "ReadyForQuery and nothing else": Z,
    "ReadyForQuery behind ParseComplete": ONE + Z + TWO + GOOD,
    "ReadyForQuery in front of the rows": ONE + TWO + Z + GOOD,
    "ReadyForQuery in front of CommandComplete": ONE + TWO + T + D + Z + C + Z,
    "the wrong order": TWO + ONE + GOOD,
    "ParseComplete twice": ONE + ONE + TWO + GOOD,
    "BindComplete twice": ONE + TWO + TWO + GOOD,
    "no BindComplete": ONE + GOOD,
    "two descriptions": ONE + TWO + T + GOOD,
    "two ends": ONE + TWO + T + D + C + C + Z,
    "CloseComplete that nobody asked for": ONE + THREE + TWO + GOOD,
    "a simple query's reply": GOOD,
    "COPY for a Describe": ONE + TWO + COPY_IN,
    "a function's result": ONE + TWO + m.message(b"V", m.int32(-1)),
}
"""Replies to Parse, Bind, Describe, Execute and Sync: all of them violations."""

STRAYS: Mapping[str, bytes] = {
    "a row": D,
    "a whole reply": GOOD,
    "CommandComplete": C,
    "ReadyForQuery": Z,
    "ParseComplete": ONE,
    "an error": ERROR,
    "a fatal error": FATAL,
    "COPY": COPY_IN,
    "an unknown type": m.message(b"~"),
    "half a message": T[:-3],
    "one byte": b"N",
    "a length of three": m.message_claiming(b"N", 3),
    "an authentication": m.authentication(0),
    "a key": m.backend_key_data(1, b"abcd"),
}
"""What no server may say while it is idle."""

LAWFUL_STRAYS: Mapping[str, bytes] = {
    "a notice": NOTICE,
    "a flood of notices": NOTICE * MANY,
    "a parameter": m.parameter_status("application_name", "stray"),
    "a notification": m.message(b"A", m.int32(1) + b"stray\0stray\0"),
}


def speak(*chunks: bytes) -> Login:
    """A login that consists of this, after which the pooler is waited for to hang up."""

    def login(conversation: Conversation) -> None:
        conversation.send(*chunks)
        while True:
            conversation.read()

    return login


def _over(conversation: Conversation) -> None:
    raise EOFError


OK = m.authentication(0)
LOGINS: Mapping[str, tuple[Login, Wanted]] = {
    "not the protocol": (speak(b"HTTP/1.1 400 Bad Request\r\n\r\n"), VIOLATION),
    "a length below four": (speak(m.message_claiming(b"R", 3)), VIOLATION),
    "a huge length": (speak(m.message_claiming(b"R", 0x7FFFFFFF, b"\0\0\0\0")), VIOLATION | TOO_LARGE),
    "ready before authentication": (speak(Z), VIOLATION),
    "a key before authentication": (speak(m.backend_key_data(1, b"abcd")), VIOLATION),
    "authentication twice": (speak(OK, OK), VIOLATION),
    "an unknown authentication": (speak(m.authentication(99)), VIOLATION | UNSUPPORTED),
    "an unsupported authentication": (speak(m.authentication(7)), UNSUPPORTED),
    "an authentication of no bytes": (speak(m.message(b"R")), VIOLATION),
    "a row": (speak(OK, D), VIOLATION),
    "an error without fields": (speak(m.message(b"E", b"\0")), BARE),
    "an error without SQLSTATE": (speak(m.message(b"E", b"SFATAL\0Mjust no\0\0")), BARE),
    "an error without end": (speak(m.message(b"E", b"SFATAL")), VIOLATION),
    "a parameter without end": (speak(OK, m.message(b"S", b"name")), VIOLATION),
    "a short key": (speak(OK, m.message(b"K", b"\0\0")), VIOLATION),
    "a key of 257 bytes": (speak(OK, m.backend_key_data(1, b"x" * 257)), VIOLATION | TOO_LARGE),
    "an open transaction": (speak(OK, m.ready_for_query(b"T")), VIOLATION),
    "a newer protocol than asked for": (speak(m.message(b"v", m.int32(0x40000) + m.int32(0))), VIOLATION),
    "endless options": (speak(m.message(b"v", m.int32(0x30000) + m.int32(0x7FFFFFFF))), VIOLATION),
    "notices without end": (speak(NOTICE * MANY), VIOLATION),
    "parameters without end": (speak(OK, m.parameter_status("a", "b") * MANY), VIOLATION),
}
"""Logins that go wrong, and the SQLSTATEs that whoever waits for them is refused with."""


def _altered(place: int, *chunks: bytes) -> Login:
    """SCRAM, in which one message of the server is another."""

    def alter(number: int, reply: tuple[bytes, ...]) -> bytes:
        return b"".join(chunks) if number == place else scram.honest(number, reply)

    def login(conversation: Conversation) -> None:
        scram.log_in(conversation, alter, (m.ready_for_query(),))
        while True:
            conversation.read()

    return login


def _nonce(*suffixes: str) -> Login:
    """SCRAM with a challenge for each of these suffixes to the client's nonce."""

    def login(conversation: Conversation) -> None:
        conversation.send(scram.offer())
        own = conversation.expect(b"p").body.split(b",r=", 1)[1].decode()
        for suffix in suffixes:
            conversation.send(scram.challenge(own + suffix))
        while True:
            conversation.read()

    return login


SCRAM: Mapping[str, tuple[Login, Wanted]] = {
    "an endless nonce": (_nonce("x" * 65_000), BY_SCRAM | TOO_LARGE),
    "a nonce that is just too long": (_nonce("x" * 10_000), BY_SCRAM | TOO_LARGE),
    "endless challenges": (_nonce(*["x"] * 100), BY_SCRAM),
    "a nonce of its own": (_altered(1, scram.challenge("another")), BY_SCRAM),
    "no nonce": (_altered(1, m.authentication(11, b"s=MDEyMw==,i=4096")), BY_SCRAM),
    "a challenge of no bytes": (_altered(1, m.authentication(11)), BY_SCRAM),
    "a challenge that is no text": (_altered(1, m.authentication(11, b"\xff\0\xff")), BY_SCRAM),
    "two thousand million iterations": (
        _altered(1, m.authentication(11, b"r=x,s=MDEyMw==,i=2147483647")),
        BY_SCRAM,
    ),
    "an error in the middle": (_altered(1, ERROR), frozenset({"XX000"})),
    "an unknown mechanism": (_altered(0, scram.offer("SCRAM-SHA-512")), UNSUPPORTED),
    "no mechanism": (_altered(0, m.authentication(10, b"\0")), UNSUPPORTED | VIOLATION),
    "mechanisms without end": (_altered(0, m.authentication(10, b"SCRAM-SHA-256")), VIOLATION | UNSUPPORTED),
    "a wrong proof": (_altered(2, m.authentication(12, b"v=AAAA"), OK), BY_SCRAM),
    "no proof": (_altered(2, OK), BY_SCRAM),
    "an error as proof": (_altered(2, m.authentication(12, b"e=other-error"), OK), BY_SCRAM),
}
"""SCRAM exchanges that go wrong."""


def cases(plays: Mapping[str, Play], greeting: tuple[bytes, ...]) -> Iterator[Attack]:
    """All of them, new at every call. `greeting`: what a good server says at a login by trust."""
    simple, extended = plays["simple"], plays["extended"]
    yield Attack("nothing hostile", simple, served=True)
    yield Attack("nothing hostile", simple, login=speak_well(greeting), served=True)
    for name, (reply, codes) in SIMPLE.items():
        after = Aftermath.SILENT if codes == TIMED_OUT else Aftermath.GO_ON
        yield Attack(name, simple, 0, instead(reply), after, codes=codes)
    for name, behind in BEHIND.items():
        yield Attack(name, simple, 0, followed_by(behind), served=True, ends=True)
    for name, reply in EXTENDED.items():
        yield Attack(f"extended: {name}", extended, 0, instead(reply), codes=VIOLATION)
    for name, stray in STRAYS.items():
        yield Attack(f"while idle: {name}", simple, stray=stray, served=True, ends=True)
    for name, stray in LAWFUL_STRAYS.items():
        yield Attack(f"while idle: {name}", simple, stray=stray, served=True)
    yield from _endings(plays)
    yield from _by_name(plays[BY_NAME])
    for name, (login, codes) in {**LOGINS, **SCRAM}.items():
        yield Attack(f"login: {name}", simple, login=login, codes=codes)
    yield Attack("login: nothing, then the end", simple, login=_over, served=True)
    yield Attack("login: nothing, for ever", simple, login=speak())
    yield Attack("login: no cancel key", simple, login=speak_well((OK, Z)), served=True)


def speak_well(greeting: tuple[bytes, ...]) -> Callable[[Conversation], None]:
    """A good login."""
    return lambda conversation: conversation.send(*greeting)


def followed_by(behind: bytes) -> Alter:
    """The good reply, and then this."""
    return lambda good: b"".join(good) + behind


def _endings(plays: Mapping[str, Play]) -> Iterator[Attack]:
    """Servers that end, or that do not."""
    simple, copy = plays["simple"], plays["copy in"]
    half, last = instead(T + D[:-2]), instead(T + FATAL)
    for after in (Aftermath.HANG_UP, Aftermath.RESET, Aftermath.SILENT):
        ends = TIMED_OUT if after is Aftermath.SILENT else LOST
        yield Attack(f"{after.value} between two messages", simple, 0, instead(T), after, codes=ends)
        yield Attack(f"{after.value} in the middle of a row", simple, 0, half, after)
        yield Attack(f"{after.value} behind a fatal error", simple, 0, last, after, codes=ENDED)
    speaks_on = instead(FATAL + ONE + TWO + GOOD)
    yield Attack("speaks on behind a fatal error", plays["extended"], 0, speaks_on, codes=ENDED | VIOLATION)
    yield Attack("never hangs up", simple, 0, followed_by(Z), Aftermath.STAY, served=True)
    yield Attack("never replies nor hangs up", simple, 0, instead(b""), Aftermath.STAY, codes=TIMED_OUT)
    yield Attack("ends COPY before it has begun", copy, 0, instead(C + Z))
    yield Attack("begins COPY twice", copy, 0, instead(COPY_IN + COPY_IN))
    too_early = instead(COPY_IN + m.command_complete("COPY 0") + Z)
    yield Attack("ends COPY before it is over", copy, 0, too_early)
    yield Attack("hangs up in COPY", copy, 0, instead(COPY_IN), Aftermath.HANG_UP)
    yield Attack("fails COPY twice", copy, 1, instead(ERROR + ERROR + Z))


def _from(tag: bytes, *said: bytes) -> Alter:
    """The good reply up to its first message of this kind, and this instead of the rest."""

    def alter(good: tuple[bytes, ...]) -> bytes:
        at = [message[:1] for message in good].index(tag)
        return b"".join((*good[:at], *said))

    return alter


def _by_name(play: Play) -> Iterator[Attack]:
    """Statements that a pooler prepares and repeats by itself: it must not do so for ever."""
    for name, error in {"gone": GONE, "of another type": CHANGED}.items():
        code = frozenset({m.fields_of(error[5:])["C"]})
        for at in (1, 2):
            yield Attack(
                f"says for ever that a statement is {name}, {at}",
                play,
                at,
                _from(b"2", error, Z),
                codes=code,
                stubborn=True,
            )
        yield Attack(f"says {name} and hangs up", play, 1, _from(b"2", error), Aftermath.HANG_UP)
        yield Attack(f"says {name} twice", play, 1, _from(b"2", error, error, Z))
    yield Attack("confirms one Parse twice", play, 0, _from(b"1", ONE, ONE), codes=VIOLATION)
    yield Attack("confirms no Parse", play, 0, lambda good: b"".join(good[1:]), codes=VIOLATION)
    yield Attack("confirms a Parse that it was not sent", play, 1, _from(b"2", ONE), codes=VIOLATION)
    yield Attack("confirms a Close that it was not sent", play, 1, _from(b"2", THREE), codes=VIOLATION)
