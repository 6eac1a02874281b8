"""What a login at a server makes of its connection: channel binding, and passwords in clear text."""

import pytest

from protocol.authentication import (
    Authentication,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLFinal,
)
from protocol.conversation import ChannelBinding, LoginImpossible
from protocol.frontend import PasswordMessage, SASLInitialResponse
from protocol.scram import ScramError, ScramKeys, ScramServer
from protocol.secret import PlainSecret, Secret
from protocol.server_login import Greeting
from tests.protocol.talk import Talk
from tests.protocol.test_server_login import CLEAR, KEYS, MD5, MD5_REQUEST, PLAIN, READY, begin, challenged

SHA, PLUS = b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS"
DISABLE, PREFER, REQUIRE = ChannelBinding.DISABLE, ChannelBinding.PREFER, ChannelBinding.REQUIRE


def chosen(talk: Talk[Greeting], *mechanisms: bytes) -> tuple[bytes, bytes]:
    """Let it hear an offer of mechanisms; return what it chooses, with its gs2 flag."""
    answer = SASLInitialResponse.decode(talk.hear(AuthenticationSASL(list(mechanisms)))[5:])
    assert answer.data is not None
    return answer.mechanism, answer.data.partition(b",")[0]


@pytest.mark.parametrize(
    ("wanted", "binding", "offer", "choice"),
    [
        (PREFER, b"certificate", [PLUS, SHA], (PLUS, b"p=tls-server-end-point")),
        (PREFER, b"certificate", [SHA, PLUS], (PLUS, b"p=tls-server-end-point")),
        (REQUIRE, b"certificate", [PLUS, SHA], (PLUS, b"p=tls-server-end-point")),
        (REQUIRE, b"certificate", [PLUS], (PLUS, b"p=tls-server-end-point")),
        # Whoever took the better mechanism out of the list is found out by the server that sees a `y`.
        (PREFER, b"certificate", [SHA], (SHA, b"y")),
        # A certificate whose signature has no hash of its own: we cannot, and say so.
        (PREFER, None, [PLUS, SHA], (SHA, b"n")),
        (PREFER, None, [SHA], (SHA, b"n")),
        (DISABLE, b"certificate", [PLUS, SHA], (SHA, b"n")),
        (DISABLE, b"certificate", [SHA], (SHA, b"n")),
    ],
)
def test_the_mechanism_and_the_flag_follow_from_the_offer_and_the_setting(
    wanted: ChannelBinding, binding: bytes | None, offer: list[bytes], choice: tuple[bytes, bytes]
) -> None:
    assert chosen(begin(binding=binding, channel_binding=wanted), *offer) == choice


@pytest.mark.parametrize("credential", [PLAIN, KEYS])
def test_a_login_with_channel_binding_proves_the_certificate_that_was_seen(
    credential: PlainSecret | ScramKeys,
) -> None:
    talk = begin(credential, binding=b"certificate", channel_binding=REQUIRE)
    server = ScramServer(b"salt", 3, binding=b"certificate", plus=True)
    server.final(challenged(talk, server))
    keys = server.keys(KEYS.verifier())
    assert keys == KEYS
    talk.hear(AuthenticationSASLFinal(server.answer(keys)), AuthenticationOk(), READY)
    assert talk.done


def test_a_server_behind_another_certificate_notices() -> None:
    talk = begin(binding=b"certificate of one in the middle")
    server = ScramServer(b"salt", 3, binding=b"certificate", plus=True)
    with pytest.raises(ScramError, match="channel binding check failed"):
        server.final(challenged(talk, server))


@pytest.mark.parametrize(
    ("request_", "binding", "text"),
    [
        (AuthenticationOk(), b"certificate", "the server does not ask for SCRAM-SHA-256"),
        (CLEAR, b"certificate", "the server does not ask for SCRAM-SHA-256"),
        (MD5_REQUEST, b"certificate", "the server does not ask for SCRAM-SHA-256"),
        (AuthenticationSASL([SHA]), b"certificate", "the server does not offer it"),
        (AuthenticationSASL([PLUS, SHA]), None, "this connection has none"),
        (AuthenticationSASL([SHA]), None, "this connection has none"),
    ],
)
def test_required_channel_binding_cannot_be_talked_down(
    request_: Authentication, binding: bytes | None, text: str
) -> None:
    talk = begin(binding=binding, channel_binding=REQUIRE)
    with pytest.raises(LoginImpossible, match=f"channel binding is required, but {text}"):
        talk.hear(request_)
    assert talk.sent == [b""]


@pytest.mark.parametrize("wanted", [PREFER, REQUIRE])
def test_channel_binding_offered_in_the_clear_means_that_somebody_took_the_encryption_off(
    wanted: ChannelBinding,
) -> None:
    talk = begin(tls=False, channel_binding=wanted)
    with pytest.raises(LoginImpossible, match="offers SCRAM-SHA-256-PLUS over an unencrypted connection"):
        talk.hear(AuthenticationSASL([PLUS, SHA]))
    assert talk.sent == [b""]


def test_behind_a_terminator_of_tls_channel_binding_can_be_turned_off() -> None:
    assert chosen(begin(tls=False, channel_binding=DISABLE), PLUS, SHA) == (SHA, b"n")


# Clear text


@pytest.mark.parametrize("credential", [PLAIN, MD5, None])
def test_a_clear_text_password_is_never_sent_where_somebody_may_listen(credential: Secret | None) -> None:
    talk = begin(credential, tls=False)
    with pytest.raises(LoginImpossible, match="clear-text password over an unencrypted connection"):
        talk.hear(CLEAR)
    assert talk.sent == [b""]


def test_a_unix_socket_is_as_good_as_encryption() -> None:
    talk = begin(tls=False, local=True)
    assert talk.hear(CLEAR) == PasswordMessage(b"sesame").encode()
