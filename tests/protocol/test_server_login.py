import contextlib
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import tags
from protocol.authentication import (
    Authentication,
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
)
from protocol.backend import (
    BackendKeyData,
    ErrorResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    NotificationResponse,
    ParameterStatus,
    ReadyForQuery,
)
from protocol.conversation import AuthMethod, ChannelBinding, LoginImpossible, ServerRefused
from protocol.errors import MalformedMessage, ProtocolError, UnexpectedMessage
from protocol.frontend import PasswordMessage, SASLInitialResponse, SASLResponse
from protocol.messages import Message
from protocol.scram import Derive, ScramKeys, ScramServer
from protocol.secret import PlainSecret, Secret, md5_response, md5_secret
from protocol.server_login import ALL_METHODS, MAX_MESSAGES, Greeting, server_login
from tests.protocol.talk import Talk, tags_of

USER = b"alice"
PLAIN = PlainSecret(b"sesame")
MD5 = md5_secret(b"sesame", USER)
KEYS = ScramKeys.of(Derive(b"sesame", b"salt", 3).run(), b"salt", 3)
SASL = AuthenticationSASL([b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"])
READY = ReadyForQuery(tags.STATUS_IDLE)


def begin(
    credential: Secret | ScramKeys | None = PLAIN,
    *,
    allowed: Collection[AuthMethod] = ALL_METHODS,
    version: int = tags.PROTOCOL_3_0,
    max_iterations: int = 100_000,
    tls: bool = True,
    local: bool = False,
    binding: bytes | None = None,
    channel_binding: ChannelBinding = ChannelBinding.PREFER,
) -> Talk[Greeting]:
    return Talk(
        server_login(
            USER,
            credential,
            allowed=allowed,
            version=version,
            max_iterations=max_iterations,
            nonce="abc",
            tls=tls,
            local=local,
            binding=binding,
            channel_binding=channel_binding,
        )
    )


def challenged(talk: Talk[Greeting], server: ScramServer) -> bytes:
    """Begin the SCRAM exchange up to client-final-message and return that."""
    data = talk.hear(SASL)
    first = SASLInitialResponse.decode(data[5:]).data
    assert first is not None
    return SASLResponse.decode(talk.hear(AuthenticationSASLContinue(server.first(first)))[5:]).data


# Without proof


def test_the_conversation_begins_by_waiting() -> None:
    assert begin().sent == [b""]


def test_a_server_that_trusts_us_greets() -> None:
    talk = begin(None)
    talk.hear(
        AuthenticationOk(),
        ParameterStatus(b"server_version", b"18.0"),
        ParameterStatus(b"TimeZone", b"UTC"),
        BackendKeyData(7, b"abcd"),
        READY,
    )
    assert talk.done
    assert b"".join(talk.sent) == b""
    assert talk.result == Greeting({b"server_version": b"18.0", b"TimeZone": b"UTC"}, 7, b"abcd")


def test_a_server_may_give_no_cancel_key() -> None:
    talk = begin()
    talk.hear(AuthenticationOk(), READY)
    assert talk.result == Greeting({}, 0, b"")


def test_a_cancel_key_may_be_long() -> None:
    talk = begin()
    talk.hear(AuthenticationOk(), BackendKeyData(-1, bytes(256)), READY)
    assert (talk.result.pid, talk.result.secret) == (-1, bytes(256))
    assert "secret" not in repr(talk.result)


def test_notices_and_parameters_may_come_at_any_time() -> None:
    notice = NoticeResponse({"M": b"hello"})
    talk = begin()
    talk.hear(notice, ParameterStatus(b"a", b"1"), AuthenticationCleartextPassword(), notice)
    talk.hear(ParameterStatus(b"a", b"2"), AuthenticationOk(), notice, READY)
    assert talk.result.parameters == {b"a": b"2"}
    assert tags_of(talk.sent) == b"p"


def test_a_server_may_not_talk_for_ever() -> None:
    talk = begin()
    talk.hear(*[NoticeResponse({})] * MAX_MESSAGES)
    with pytest.raises(ProtocolError, match="too many messages"):
        talk.hear(NoticeResponse({}))


# Passwords


def test_a_clear_text_password_is_sent_where_it_is_known() -> None:
    assert begin().hear(AuthenticationCleartextPassword()) == PasswordMessage(b"sesame").encode()


@pytest.mark.parametrize("credential", [PLAIN, MD5])
def test_an_md5_password_is_made_of_the_password_or_its_hash(credential: Secret) -> None:
    answer = begin(credential).hear(AuthenticationMD5Password(b"salt"))
    assert answer == PasswordMessage(md5_response(MD5, b"salt")).encode()


CLEAR = AuthenticationCleartextPassword()
MD5_REQUEST = AuthenticationMD5Password(b"salt")


@pytest.mark.parametrize(
    ("credential", "request_", "text"),
    [
        (MD5, CLEAR, 'clear-text password, but only a hash is known for user "alice"'),
        (KEYS, CLEAR, "clear-text password, but only a hash"),
        (KEYS.verifier(), CLEAR, "clear-text password, but only a hash"),
        (KEYS, MD5_REQUEST, "MD5 password, but only a SCRAM secret is known"),
        (KEYS.verifier(), MD5_REQUEST, "MD5 password, but only a SCRAM secret is known"),
        (MD5, SASL, "SCRAM-SHA-256, but no password and no SCRAM keys are known"),
        (KEYS.verifier(), SASL, "SCRAM-SHA-256, but no password and no SCRAM keys are known"),
        (None, CLEAR, 'asks for a password, and none is known for user "alice"'),
        (None, MD5_REQUEST, "asks for a password, and none is known"),
        (None, SASL, "asks for a password, and none is known"),
        (PlainSecret(b""), CLEAR, "asks for a password, and none is known"),
        (PLAIN, AuthenticationKerberosV5(), "AuthenticationKerberosV5, which is not supported"),
        (PLAIN, AuthenticationGSS(), "AuthenticationGSS, which is not supported"),
        (PLAIN, AuthenticationGSSContinue(b""), "which is not supported"),
        (PLAIN, AuthenticationSSPI(), "which is not supported"),
        (PLAIN, AuthenticationSASLContinue(b""), "which is not supported"),
        (PLAIN, AuthenticationSASL([b"SCRAM-SHA-1"]), "no SASL mechanism that is supported"),
        (PLAIN, AuthenticationSASL([]), "no SASL mechanism that is supported"),
        (PLAIN, AuthenticationSASL([b"SCRAM-SHA-256-PLUS"]), "no SASL mechanism that is supported"),
    ],
)
def test_what_we_cannot_answer_is_said_and_nothing_is_sent(
    credential: Secret | ScramKeys | None, request_: Authentication, text: str
) -> None:
    talk = begin(credential)
    with pytest.raises(LoginImpossible, match=text) as caught:
        talk.hear(request_)
    assert caught.value.sqlstate == "28000"
    assert talk.sent == [b""]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (AuthMethod.TRUST, AuthenticationOk()),
        (AuthMethod.PLAIN, CLEAR),
        (AuthMethod.MD5, MD5_REQUEST),
        (AuthMethod.SCRAM_SHA_256, SASL),
    ],
)
def test_a_method_that_is_not_allowed_gets_nothing(method: AuthMethod, request_: Authentication) -> None:
    talk = begin(PLAIN, allowed=ALL_METHODS - {method})
    with pytest.raises(LoginImpossible, match="which is not allowed"):
        talk.hear(request_)
    assert talk.sent == [b""]


def test_a_user_name_of_any_bytes_can_be_named() -> None:
    talk = Talk(server_login(b"caf\xe9", None, tls=True))
    with pytest.raises(LoginImpossible, match=r'user "caf\\xe9"'):
        talk.hear(CLEAR)


@pytest.mark.parametrize("second", [CLEAR, MD5_REQUEST, SASL, AuthenticationSASLFinal(b"")])
def test_a_server_that_asks_twice_gets_one_answer(second: Authentication) -> None:
    talk = begin()
    talk.hear(MD5_REQUEST)
    with pytest.raises(UnexpectedMessage, match="after it was answered"):
        talk.hear(second)
    assert tags_of(talk.sent) == b"p"


# SCRAM


@pytest.mark.parametrize("credential", [PLAIN, KEYS])
def test_scram_is_answered_with_a_password_or_with_keys(credential: PlainSecret | ScramKeys) -> None:
    talk, server = begin(credential), ScramServer(b"salt", 3)
    server.final(challenged(talk, server))
    keys = server.keys(KEYS.verifier())
    assert keys == KEYS
    talk.hear(AuthenticationSASLFinal(server.answer(keys)), AuthenticationOk(), READY)

    assert talk.done
    assert talk.derived == ([Derive(b"sesame", b"salt", 3)] if credential is PLAIN else [])


@pytest.mark.parametrize(("salt", "iterations"), [(b"pepper", 3), (b"salt", 4)])
def test_keys_of_another_salt_or_count_are_not_used(salt: bytes, iterations: int) -> None:
    talk = begin(KEYS)
    with pytest.raises(LoginImpossible, match="another SCRAM secret"):
        challenged(talk, ScramServer(salt, iterations))
    assert tags_of(talk.sent) == b"p"


@pytest.mark.parametrize(
    "server_first",
    [
        b"",
        b"r=abc" + b"x" * 60_000 + b",s=c2FsdA==,i=3",
        b"r=abc1,s=c2FsdA==,i=0",
        b"r=abc1,s=c2FsdA==,i=2147483647",
        b"r=other,s=c2FsdA==,i=3",
        b"e=unknown-user",
    ],
)
def test_a_hostile_challenge_costs_nothing(server_first: bytes) -> None:
    talk = begin()
    talk.hear(SASL)
    with pytest.raises(ProtocolError):
        talk.hear(AuthenticationSASLContinue(server_first))
    assert talk.derived == []
    assert tags_of(talk.sent) == b"p"


def test_the_cap_on_iterations_can_be_set() -> None:
    talk = begin(max_iterations=2)
    with pytest.raises(ProtocolError, match="iteration"):
        challenged(talk, ScramServer(b"salt", 3))


@pytest.mark.parametrize(
    "final", [b"", b"v=", b"v=" + b"A" * 43 + b"=", b"e=invalid-proof", b"v=" + b"A" * 60_000]
)
def test_a_server_that_does_not_know_the_password_is_not_believed(final: bytes) -> None:
    talk = begin()
    challenged(talk, ScramServer(b"salt", 3))
    with pytest.raises(ProtocolError):
        talk.hear(AuthenticationSASLFinal(final))


@pytest.mark.parametrize("early", [AuthenticationOk(), CLEAR, MD5_REQUEST, AuthenticationSASLFinal(b"v=x")])
def test_scram_cannot_be_left_before_the_challenge(early: Authentication) -> None:
    talk = begin()
    talk.hear(SASL)
    with pytest.raises(UnexpectedMessage, match="in the middle of SCRAM"):
        talk.hear(early)


@pytest.mark.parametrize("early", [AuthenticationOk(), CLEAR, SASL, AuthenticationSASLContinue(b"")])
def test_scram_cannot_be_left_before_the_server_proved_itself(early: Authentication) -> None:
    talk = begin()
    challenged(talk, ScramServer(b"salt", 3))
    with pytest.raises(UnexpectedMessage, match="instead of its SCRAM signature"):
        talk.hear(early)


# Refusals


@pytest.mark.parametrize("before", [[], [MD5_REQUEST], [SASL], [AuthenticationOk()]])
def test_a_refusal_keeps_the_servers_own_words(before: list[Message]) -> None:
    refusal = ErrorResponse.make("FATAL", "28P01", "no")
    talk = begin()
    talk.hear(*before)
    with pytest.raises(ServerRefused) as caught:
        talk.hear(refusal)
    assert caught.value.error == refusal
    assert caught.value.raw == refusal.encode()
    assert (caught.value.sqlstate, caught.value.message) == ("28P01", "no")


def test_a_refusal_may_lack_its_sqlstate() -> None:
    with pytest.raises(ServerRefused) as caught:
        begin().hear(ErrorResponse({"M": b"no"}))
    assert (caught.value.sqlstate, caught.value.message) == ("", "no")


def test_a_refusal_that_is_malformed_is_a_protocol_error() -> None:
    with pytest.raises(MalformedMessage):
        begin().hear_raw(tags.ERROR_RESPONSE, b"Mno")


# Versions


def test_a_server_may_negotiate_the_version_down() -> None:
    talk = begin(version=tags.PROTOCOL_3_2)
    talk.hear(NegotiateProtocolVersion(tags.PROTOCOL_3_0, [b"_pq_.x"]), AuthenticationOk(), READY)
    assert (talk.result.version, talk.result.unrecognized) == (tags.PROTOCOL_3_0, (b"_pq_.x",))


def test_without_negotiation_the_version_is_the_one_asked_for() -> None:
    talk = begin(version=tags.PROTOCOL_3_2)
    talk.hear(AuthenticationOk(), READY)
    assert (talk.result.version, talk.result.unrecognized) == (tags.PROTOCOL_3_2, ())


@pytest.mark.parametrize("newest", [0, 2, -1, 2 << 16, tags.PROTOCOL_3_0 + 1, tags.PROTOCOL_3_2, 4 << 16])
def test_a_server_may_not_negotiate_the_version_up(newest: int) -> None:
    with pytest.raises(UnexpectedMessage, match="offers protocol version"):
        begin().hear(NegotiateProtocolVersion(newest, []))


@pytest.mark.parametrize("between", [[], [MD5_REQUEST]])
def test_a_server_negotiates_once(between: list[Message]) -> None:
    again = NegotiateProtocolVersion(tags.PROTOCOL_3_0, [])
    talk = begin()
    talk.hear(again, *between)
    with pytest.raises(UnexpectedMessage):
        talk.hear(again)


# Nonsense


@pytest.mark.parametrize(
    "message",
    [
        AuthenticationOk(),
        CLEAR,
        NegotiateProtocolVersion(tags.PROTOCOL_3_0, []),
        NotificationResponse(1, b"a", b"b"),
        ReadyForQuery(tags.STATUS_IN_TRANSACTION),
        ReadyForQuery(tags.STATUS_FAILED),
    ],
)
def test_what_has_no_place_after_authentication_is_unexpected(message: Message) -> None:
    talk = begin()
    talk.hear(AuthenticationOk())
    with pytest.raises(UnexpectedMessage):
        talk.hear(message)


@pytest.mark.parametrize("message", [READY, BackendKeyData(1, b"abcd"), NotificationResponse(1, b"a", b"b")])
def test_what_has_no_place_before_authentication_is_unexpected(message: Message) -> None:
    with pytest.raises(UnexpectedMessage, match="during authentication"):
        begin().hear(message)


TAGS = st.sampled_from(list(b"RRRRKSNEvZAT\0"))
BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([0, 3, 5, 8, 10, 11, 12]).map(lambda code: code.to_bytes(4, "big")),
    st.just(SASL.encode()[5:]),
    st.just(b"\0\0\0\x0br=abc1,s=c2FsdA==,i=3"),
    st.just(b"I"),
)


@given(st.lists(st.tuples(TAGS, BODIES), max_size=8))
@settings(deadline=None, max_examples=300)
def test_no_server_gets_more_than_an_error_out_of_us(messages: list[tuple[int, bytes]]) -> None:
    talk = begin(KEYS)
    with contextlib.suppress(ProtocolError, LoginImpossible, ServerRefused):
        for tag, body in messages:
            talk.hear_raw(tag, body)
            if talk.done:
                break
