import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import backend, frontend, tags
from protocol.backend import (
    AuthenticationCleartextPassword,
    AuthenticationGSS,
    AuthenticationGSSContinue,
    AuthenticationKerberosV5,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
    AuthenticationSSPI,
    BackendKeyData,
    CommandComplete,
    CopyBothResponse,
    CopyData,
    CopyDone,
    CopyInResponse,
    CopyOutResponse,
    DataRow,
    ErrorResponse,
    FieldDescription,
    FunctionCallResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    ParseComplete,
    ReadyForQuery,
    RowDescription,
)
from protocol.frontend import (
    PORTAL,
    STATEMENT,
    Bind,
    Close,
    CopyFail,
    Describe,
    Execute,
    FunctionCall,
    GSSResponse,
    Parse,
    PasswordMessage,
    Query,
    SASLInitialResponse,
    SASLResponse,
    Sync,
)
from protocol.messages import Message
from protocol.startup import (
    encode_cancel_request,
    encode_ssl_request,
    encode_startup,
)
from protocol.trace import Trace
from tests.support import messages as m

# In the form of the traces of libpq's own tests.
FRONTEND: list[tuple[Message, str]] = [
    (Parse(b"", b"SELECT $1", [23]), 'F\t21\tParse\t "" "SELECT $1" 1 NNNN'),
    (Bind(b"", b"", [0], [b"1", None], [1]), 'F\t25\tBind\t "" "" 1 0 2 1 \'1\' -1 1 1'),
    (Describe(PORTAL, b""), 'F\t6\tDescribe\t P ""'),
    (Execute(b""), 'F\t9\tExecute\t "" 0'),
    (Sync(), "F\t4\tSync"),
    (Close(STATEMENT, b"s"), 'F\t7\tClose\t S "s"'),
    (CopyData(b"secret row"), "F\t14\tCopyData"),
    (CopyDone(), "F\t4\tCopyDone"),
    (CopyFail(b"no"), 'F\t7\tCopyFail\t "no"'),
    (frontend.Flush(), "F\t4\tFlush"),
    (FunctionCall(1, [], [b"a"], 0), "F\t19\tFunctionCall\t NNNN 0 1 1 'a' 0"),
    (Query(b"select 'a\n'"), "F\t16\tQuery\t \"select 'a\\x0a'\""),
    (frontend.Terminate(), "F\t4\tTerminate"),
]
BACKEND: list[tuple[Message, str]] = [
    (AuthenticationOk(), "B\t8\tAuthenticationOk"),
    (AuthenticationKerberosV5(), "B\t8\tAuthenticationKerberosV5"),
    (AuthenticationCleartextPassword(), "B\t8\tAuthenticationCleartextPassword"),
    (AuthenticationMD5Password(b"salt"), "B\t12\tAuthenticationMD5Password\t 'BBBB'"),
    (AuthenticationGSS(), "B\t8\tAuthenticationGSS"),
    (AuthenticationGSSContinue(b"x"), "B\t9\tAuthenticationGSSContinue\t 'BBBB'"),
    (AuthenticationSSPI(), "B\t8\tAuthenticationSSPI"),
    (AuthenticationSASL([b"SCRAM-SHA-256"]), 'B\t23\tAuthenticationSASL\t "SCRAM-SHA-256" ""'),
    (AuthenticationSASLContinue(b"r=1"), "B\t11\tAuthenticationSASLContinue\t 'BBBB'"),
    (AuthenticationSASLFinal(b"v=1"), "B\t11\tAuthenticationSASLFinal\t 'BBBB'"),
    (ParseComplete(), "B\t4\tParseComplete"),
    (backend.BindComplete(), "B\t4\tBindComplete"),
    (backend.CloseComplete(), "B\t4\tCloseComplete"),
    (
        RowDescription([FieldDescription(b"?column?", 0, 0, 23, 4, -1, 0)]),
        'B\t33\tRowDescription\t 1 "?column?" NNNN 0 NNNN 4 -1 0',
    ),
    (
        RowDescription([FieldDescription(b"x")]),
        'B\t26\tRowDescription\t 1 "x" NNNN 0 NNNN 65535 -1 0',
    ),
    (DataRow([b"1", None]), "B\t15\tDataRow\t 2 1 '1' -1"),
    (CommandComplete(b"SELECT 1"), 'B\t13\tCommandComplete\t "SELECT 1"'),
    (ReadyForQuery(tags.STATUS_IDLE), "B\t5\tReadyForQuery\t I"),
    (BackendKeyData(1, b"abcd"), "B\t12\tBackendKeyData\t NNNN 'BBBB'"),
    (
        ErrorResponse({"S": b"ERROR", "C": b"42601", "F": b"scan.l", "L": b"1", "R": b"y"}),
        'B\tNN\tErrorResponse\t S "ERROR" C "42601" F "SSSS" L "SSSS" R "SSSS" \\x00',
    ),
    (NoticeResponse({"M": b"caf\xc3\xa9"}), 'B\tNN\tNoticeResponse\t M "caf\\xc3\\xa9" \\x00'),
    (CopyInResponse(0, [0, 1]), "B\t11\tCopyInResponse\t \\x00 2 0 1"),
    (CopyOutResponse(1, []), "B\t7\tCopyOutResponse\t \\x01 0"),
    (CopyBothResponse(0, [0]), "B\t9\tCopyBothResponse\t \\x00 1 0"),
    (CopyData(b"secret row"), "B\t14\tCopyData"),
    (CopyDone(), "B\t4\tCopyDone"),
    (backend.EmptyQueryResponse(), "B\t4\tEmptyQueryResponse"),
    (FunctionCallResponse(b"a"), "B\t9\tFunctionCallResponse\t 1 'a'"),
    (
        NegotiateProtocolVersion(196608, [b"_pq_.x"]),
        'B\t19\tNegotiateProtocolVersion\t 196608 1 "_pq_.x"',
    ),
    (backend.NoData(), "B\t4\tNoData"),
    (NotificationResponse(7, b"c", b"p"), 'B\t12\tNotificationResponse\t NNNN "c" "p"'),
    (ParameterDescription([23, 25]), "B\t14\tParameterDescription\t 2 NNNN NNNN"),
    (ParameterStatus(b"a", b"b"), 'B\t8\tParameterStatus\t "a" "b"'),
    (backend.PortalSuspended(), "B\t4\tPortalSuspended"),
]


@pytest.mark.parametrize(("message", "line"), FRONTEND)
def test_a_frontend_message_is_traced_as_libpq_does(message: Message, line: str) -> None:
    data = message.encode()
    assert Trace(regress=True).frontend(data[0], data[5:]) == line


@pytest.mark.parametrize(("message", "line"), BACKEND)
def test_a_backend_message_is_traced_as_libpq_does(message: Message, line: str) -> None:
    data = message.encode()
    assert Trace(regress=True).backend(data[0], data[5:]) == line


def test_every_message_is_shown_here() -> None:
    assert {message.tag for message, _ in FRONTEND} == set(frontend.MESSAGES)
    assert {message.tag for message, _ in BACKEND} == {*backend.MESSAGES, tags.AUTHENTICATION}


def test_without_regress_mode_numbers_and_places_are_shown() -> None:
    trace = Trace()
    parse, error = Parse(b"", b"x", [23]), ErrorResponse({"L": b"12"})

    assert trace.frontend(parse.tag, parse.encode()[5:]).endswith(" 1 23")
    assert trace.backend(error.tag, error.encode()[5:]) == 'B\t9\tErrorResponse\t L "12" \\x00'


def test_packets_without_a_tag_are_traced() -> None:
    trace = Trace(regress=True)

    startup = encode_startup({b"user": b"alice", b"database": b"d"})
    assert trace.packet(startup) == 'F\t31\tStartupMessage\t 3 0 "user" "alice" "database" "d"'
    assert trace.packet(encode_ssl_request()) == "F\t8\tSSLRequest\t 1234 5679"
    assert trace.packet(m.gssenc_request()) == "F\t8\tGSSENCRequest\t 1234 5680"
    assert trace.packet(encode_cancel_request(1, b"abcd")) == "F\t16\tCancelRequest\t 1234 5678 NNNN 'BBBB'"
    assert trace.answer(b"S") == "B\t1\tSSLResponse\t S"


@pytest.mark.parametrize(
    ("request_", "response", "line"),
    [
        (None, PasswordMessage(b"sesame"), "F\t11\tUnknownAuthenticationResponse\t 'BBBB'"),
        (AuthenticationOk(), PasswordMessage(b"sesame"), "F\t11\tUnknownAuthenticationResponse\t 'BBBB'"),
        (AuthenticationCleartextPassword(), PasswordMessage(b"sesame"), "F\t11\tPasswordMessage\t 'BBBB'"),
        (AuthenticationMD5Password(b"salt"), PasswordMessage(b"sesame"), "F\t11\tPasswordMessage\t 'BBBB'"),
        (AuthenticationSASL([]), SASLInitialResponse(b"X", b"sesame"), "F\t16\tSASLInitialResponse\t 'BBBB'"),
        (AuthenticationSASLContinue(b""), SASLResponse(b"sesame"), "F\t10\tSASLResponse\t 'BBBB'"),
        (AuthenticationGSS(), GSSResponse(b"sesame"), "F\t10\tGSSResponse\t 'BBBB'"),
    ],
)
def test_an_answer_is_named_by_what_was_asked_and_never_shown(
    request_: Message | None, response: Message, line: str
) -> None:
    trace = Trace()
    if request_ is not None:
        trace.backend(request_.tag, request_.encode()[5:])
    assert trace.frontend(response.tag, response.encode()[5:]) == line


@pytest.mark.parametrize(
    ("tag", "body", "line"),
    [
        (ord("Q"), b"no terminator", "F\t17\tQuery\t malformed"),
        (ord("Q"), b"a\0b", 'F\t7\tQuery\t "a" malformed'),
        (ord("B"), b"p\0s\0\xff\xff", 'F\t10\tBind\t "p" "s" 65535 malformed'),
        (ord("E"), b"\0", 'F\t5\tExecute\t "" malformed'),
        (0, b"\xff", "F\t5\tUnknown message: 00\t 'BBBB'"),
    ],
)
def test_a_malformed_message_still_gets_its_line(tag: int, body: bytes, line: str) -> None:
    assert Trace().frontend(tag, body) == line


@pytest.mark.parametrize(
    ("tag", "body", "line"),
    [
        (ord("R"), b"", "B\t4\tUnknown authentication message -1\t 'BBBB'"),
        (ord("R"), b"\0\0\0\x63xyz", "B\t11\tUnknown authentication message 99\t 'BBBB'"),
        (ord("D"), b"\0\x01\xff\xff\xff\xfe", "B\t10\tDataRow\t 1 -2 malformed"),
        (
            ord("v"),
            b"\0\x03\0\0\x7f\xff\xff\xff",
            "B\t12\tNegotiateProtocolVersion\t 196608 2147483647 malformed",
        ),
        (ord("~"), b"", "B\t4\tUnknown message: 7e\t 'BBBB'"),
    ],
)
def test_a_malformed_answer_still_gets_its_line(tag: int, body: bytes, line: str) -> None:
    assert Trace().backend(tag, body) == line


@pytest.mark.parametrize("packet", [b"", b"\0\0", b"\0\0\0\x08\0\x03\0\0"])
def test_a_malformed_packet_still_gets_its_line(packet: bytes) -> None:
    assert Trace().packet(packet).endswith("malformed")


SECRET = b"TOP SECRET"
REDACTED_FRONTEND: list[tuple[Message, str]] = [
    (Parse(b"s", SECRET, [23]), "F\t23\tParse\t \"s\" 'BBBB'"),
    (Bind(b"p", b"s", [0], [SECRET], [1]), 'F\t32\tBind\t "p" "s" \'BBBB\''),
    (Describe(STATEMENT, b"s"), 'F\t7\tDescribe\t S "s"'),
    (Execute(b"p", 5), 'F\t10\tExecute\t "p" 5'),
    (CopyData(SECRET), "F\t14\tCopyData"),
    (CopyFail(SECRET), "F\t15\tCopyFail\t 'BBBB'"),
    (FunctionCall(1, [], [SECRET], 0), "F\t28\tFunctionCall\t 'BBBB'"),
    (Query(SECRET), "F\t15\tQuery\t 'BBBB'"),
    (Parse(SECRET * 7, b"", []), f"F\t78\tParse\t \"{(SECRET * 7).decode()[:63]}...\" 'BBBB'"),
]
REDACTED_BACKEND: list[tuple[Message, str]] = [
    (BackendKeyData(1, SECRET), "B\t18\tBackendKeyData\t 'BBBB'"),
    (CommandComplete(b"INSERT 0 1"), 'B\t15\tCommandComplete\t "INSERT 0 1"'),
    (CommandComplete(b"SELECT secret"), "B\t18\tCommandComplete\t 'BBBB'"),
    (CopyInResponse(0, [0] * 3), "B\t13\tCopyInResponse\t \\x00 3 'BBBB'"),
    (DataRow([SECRET]), "B\t20\tDataRow\t 'BBBB'"),
    (
        ErrorResponse({"S": b"FEHLER", "V": b"ERROR", "C": b"42601", "M": SECRET}),
        'B\t39\tErrorResponse\t V "ERROR" C "42601"',
    ),
    (NoticeResponse({"V": SECRET, "C": SECRET}), "B\t29\tNoticeResponse\t"),
    (FunctionCallResponse(SECRET), "B\t18\tFunctionCallResponse\t 'BBBB'"),
    (NegotiateProtocolVersion(3, [SECRET]), "B\t23\tNegotiateProtocolVersion\t 'BBBB'"),
    (NotificationResponse(7, SECRET, SECRET), "B\t30\tNotificationResponse\t 'BBBB'"),
    (ParameterDescription([23, 25]), "B\t14\tParameterDescription\t 2 'BBBB'"),
    (ParameterStatus(b"TimeZone", SECRET), "B\t24\tParameterStatus\t 'BBBB'"),
    (ReadyForQuery(tags.STATUS_FAILED), "B\t5\tReadyForQuery\t E"),
    (RowDescription([FieldDescription(SECRET)]), "B\t35\tRowDescription\t 1 'BBBB'"),
]


@pytest.mark.parametrize(("message", "line"), REDACTED_FRONTEND)
def test_of_what_a_user_says_a_redacted_trace_shows_names_only(message: Message, line: str) -> None:
    data = message.encode()
    assert Trace(redacted=True).frontend(data[0], data[5:]) == line


@pytest.mark.parametrize(("message", "line"), REDACTED_BACKEND)
def test_of_what_a_server_says_a_redacted_trace_shows_no_data(message: Message, line: str) -> None:
    data = message.encode()
    assert Trace(redacted=True).backend(data[0], data[5:]) == line


@pytest.mark.parametrize(("message", "_"), FRONTEND + BACKEND)
def test_a_redacted_trace_has_the_length_and_the_name_of_every_message(message: Message, _: str) -> None:
    data = message.encode()
    full, redacted = Trace(), Trace(redacted=True)
    for shown, line in (
        (full.frontend(data[0], data[5:]), redacted.frontend(data[0], data[5:])),
        (full.backend(data[0], data[5:]), redacted.backend(data[0], data[5:])),
    ):
        assert line.split("\t")[:3] == shown.split("\t")[:3]


def test_a_redacted_trace_of_a_startup_packet_names_nobody() -> None:
    packet = encode_startup({b"user": SECRET})
    assert Trace(redacted=True).packet(packet) == "F\t25\tStartupMessage\t 3 0 'BBBB'"


def test_of_a_message_of_which_only_the_beginning_is_there_the_whole_length_is_shown() -> None:
    trace = Trace()
    assert trace.frontend(ord("Q"), b"select", 900) == "F\t900\tQuery\t ..."
    assert trace.frontend(ord("P"), b"s\0sel", 900) == 'F\t900\tParse\t "s" ...'
    assert trace.backend(ord("D"), b"\0\1", 900) == "B\t900\tDataRow\t 1 ..."
    assert trace.backend(ord("R"), b"\0\0\0\5", 12) == "B\t12\tAuthenticationMD5Password\t 'BBBB'"


@given(st.booleans(), st.booleans(), st.integers(0, 255), st.binary(max_size=40))
@settings(deadline=None, max_examples=300)
def test_whatever_comes_is_one_line_of_printable_ascii(
    regress: bool, redacted: bool, tag: int, body: bytes
) -> None:
    trace = Trace(regress=regress, redacted=redacted)
    for line in (trace.frontend(tag, body), trace.backend(tag, body), trace.packet(body), trace.answer(body)):
        assert line.replace("\t", "").isprintable()
        assert line.isascii()
