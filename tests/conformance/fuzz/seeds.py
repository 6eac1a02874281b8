"""Inputs to begin with: one good example of everything, so that the fuzzer starts behind the first checks.

Law: written with the tests' own opinion on the protocol, not with the code that is fuzzed.
"""

from collections.abc import Iterable

from tests.support import messages as m

FRONTEND = [
    m.parse("s", "select $1", [23, 0]),
    m.bind("p", "s", ["x", None]),
    m.describe(b"S", "s"),
    m.execute("p", 10),
    m.close(b"P", "p"),
    m.sync(),
    m.flush(),
    m.query("select 1"),
    m.copy_data(b"1\n"),
    m.copy_done(),
    m.copy_fail("no"),
    m.function_call(1598, [b"ab"]),
    m.terminate(),
]
BACKEND = [
    m.authentication(0),
    m.authentication(5, b"salt"),
    m.authentication(10, b"SCRAM-SHA-256\0\0"),
    m.authentication(11, b"r=abc,s=QSXCR+Q6sek8bf92,i=4096"),
    m.parameter_status("TimeZone", "UTC"),
    m.backend_key_data(1, b"abcd"),
    m.row_description(["a", "b"]),
    m.data_row(["1", None]),
    m.command_complete("SELECT 1"),
    m.error_response("26000", 'prepared statement "howdah_1" does not exist'),
    m.error_response("01000", "a notice", tag=b"N"),
    m.ready_for_query(),
    m.message(b"t", m.int16(1) + m.int32(23)),
    m.message(b"G", b"\0" + m.int16(1) + m.int16(0)),
    m.message(b"A", m.int32(7) + b"channel\0payload\0"),
    m.message(b"v", m.int32(0x30000) + m.int32(1) + b"_pq_.x\0"),
    m.message(b"V", m.int32(1) + b"x"),
]
STARTUP = [
    m.startup({"user": "u", "database": "d", "options": "-c geqo=off --x-y=1"}),
    m.startup({"user": "u"}, version=m.PROTOCOL_3_2),
    m.ssl_request(),
    m.gssenc_request(),
    m.cancel_request(1, b"abcd"),
]
KINDS = 25
"""Of messages that one side sends, and one more."""
PASSWORDS = [
    m.password("sesame"),
    m.sasl_initial("SCRAM-SHA-256", b"n,,"),
    m.sasl_response(b"c=biws"),
    m.sasl_response(b"\0\1"),
]
FIELDS = bytes((1, 1, 2)) + bytes((4, 1)) + b"x" + bytes((4, 15)) + b"y"
"""A body of fields: a count of two, and two values."""
OPTIONS = [b"-c a=b", b"-ca=b --c-d=e\\ f"]
SCRAM_CLIENT_SAYS = [b"n,,n=,r=abc", b"y,,n=,r=abc", b"p=tls-server-end-point,,n=,r=abc,x=y"]
SCRAM_FINAL = b"c=biws,r=%,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
SCRAM_SERVER_SAYS = b"r=%srv,s=QSXCR+Q6sek8bf92,i=4096"
SIGNATURE = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
SECRETS = [b"md5" + b"0" * 32, b"SCRAM-SHA-256$4096:QSXCR+Q6sek8bf92$" + b":".join([b"A" * 43 + b"="] * 2)]
RULER = b"-" * 60 + b"\nselect 1"
"""A comment that many a text begins with."""
DEALLOCATES = [
    RULER,
    b'deallocate "a b"',
    b"DEALLOCATE PREPARE s_1;",
    b"deallocate all",
    b"/* x */ deallocate a -- b",
]


def seeds_of(name: str) -> list[bytes]:
    """The inputs that a target begins with."""
    if name.startswith(("framer", "collector")):
        messages = BACKEND if name.endswith("server") else FRONTEND
        return [_as_source(at, message) for at, message in enumerate(messages)]
    return SEEDS.get(name) or [bytes((at, 1)) + b"n\0\0" + body for at, body in enumerate(_bodies(FRONTEND))]


def _for_every_kind(messages: Iterable[bytes]) -> list[bytes]:
    """Each body as one of every kind of message."""
    return [bytes((0, kind, 0)) + body for body in _bodies(messages) for kind in range(KINDS)]


def _bodies(messages: Iterable[bytes]) -> list[bytes]:
    return [message[5:] for message in messages]


def _as_source(at: int, message: bytes) -> bytes:
    """One message as the stream of a source: sizes to cut to, then how, tag, length and body."""
    body = message[5:]
    return bytes((at, 1, 7)) + bytes((0, at, len(body))) + body


def _numbered(inputs: Iterable[bytes]) -> list[bytes]:
    return [bytes((at,)) + each for at, each in enumerate(inputs)]


SEEDS = {
    "messages of a frontend": _for_every_kind(FRONTEND),
    "messages of a backend": _for_every_kind(BACKEND),
    "passwords": _numbered(b"\0" + body for body in _bodies(PASSWORDS)),
    "startup": [*STARTUP, *(packet[4:] for packet in STARTUP)],
    "startup: options": OPTIONS,
    "SCRAM: what a client says": _numbered(
        bytes((len(each),)) + each + SCRAM_FINAL for each in SCRAM_CLIENT_SAYS
    ),
    "SCRAM: what a server says": [bytes((len(SCRAM_SERVER_SAYS),)) + SCRAM_SERVER_SAYS + SIGNATURE],
    "stored secrets": SECRETS,
    "shapes of rows": [b"\0" + body for body in _bodies(BACKEND)],
    "DEALLOCATE": DEALLOCATES,
    "planted fault": [FIELDS],
}
