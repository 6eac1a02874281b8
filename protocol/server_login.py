"""Our login conversation with a server, from the sent startup packet to its first ReadyForQuery.

A server is as little trusted as a client. It asks for one kind of proof, once; what it may not ask for it
does not get; a password in clear text goes only where nobody can listen; one that began SCRAM must prove that
it knows the password, too. Notices and parameters may come at any time, but not for ever.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from . import authentication, sqlstate, tags
from .authentication import (
    Authentication,
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationOk,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
)
from .backend import BackendKeyData, NegotiateProtocolVersion, ParameterStatus, ReadyForQuery
from .conversation import (
    AuthMethod,
    ChannelBinding,
    Conversation,
    LoginImpossible,
    ServerRefused,
    derive,
    exchange,
)
from .errors import ProtocolError, UnexpectedMessage
from .frontend import PasswordMessage, SASLInitialResponse, SASLResponse
from .report import ErrorResponse
from .scram import MAX_ITERATIONS, MECHANISM, MECHANISM_PLUS, ScramClient, ScramKeys
from .secret import Md5Secret, PlainSecret, Secret, md5_response, md5_secret
from .wire import message

MAX_MESSAGES: Final = 250
"""More messages than this during one login are taken for an attempt to keep us busy for ever."""

ALL_METHODS: Final = frozenset({AuthMethod.TRUST, AuthMethod.PLAIN, AuthMethod.MD5, AuthMethod.SCRAM_SHA_256})


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server said on letting us in.

    `pid` is 0 and `secret` empty for a server that gave no cancel key. `version` is the protocol version
    agreed upon, `unrecognized` the protocol options the server does not know.
    """

    parameters: dict[bytes, bytes]
    pid: int
    secret: bytes = field(repr=False)
    version: int = tags.PROTOCOL_3_0
    unrecognized: tuple[bytes, ...] = ()


def server_login(
    user: bytes,
    credential: Secret | ScramKeys | None,
    *,
    allowed: Collection[AuthMethod] = ALL_METHODS,
    version: int = tags.PROTOCOL_3_0,
    max_iterations: int = MAX_ITERATIONS,
    nonce: str | None = None,
    tls: bool = False,
    local: bool = False,
    binding: bytes | None = None,
    channel_binding: ChannelBinding = ChannelBinding.PREFER,
) -> Conversation[Greeting]:
    """Converse with a server to which the startup packet was sent.

    `allowed`: proofs that may be given; TRUST stands for none at all. `version`: what the startup packet
    asked for. `nonce` is drawn at random unless given. `tls`: whether the connection is encrypted; `local`:
    whether it is a unix socket. `binding`: data of tls-server-end-point where there is any. Raises
    ServerRefused for an ErrorResponse, LoginImpossible where the server may not have what it asks for, or we
    do not have it, and ProtocolError for nonsense.
    """
    channel = _Channel(tls, local, None if channel_binding is ChannelBinding.DISABLE else binding)
    login = _ServerLogin(user, credential, frozenset(allowed), version, channel, channel_binding)
    yield from login.authenticate(max_iterations, nonce)
    return (yield from login.greeting())


@dataclass(frozen=True, slots=True)
class _Channel:
    """The connection that a login runs over."""

    tls: bool
    local: bool
    binding: bytes | None


@dataclass(slots=True)
class _ServerLogin:
    user: bytes
    credential: Secret | ScramKeys | None
    allowed: frozenset[AuthMethod]
    version: int
    channel: _Channel
    channel_binding: ChannelBinding
    parameters: dict[bytes, bytes] = field(default_factory=dict)
    unrecognized: tuple[bytes, ...] | None = None
    messages: int = 0

    def authenticate(self, max_iterations: int, nonce: str | None) -> Conversation[None]:
        """Go on until AuthenticationOk."""
        request = yield from self._request()
        if self.channel_binding is ChannelBinding.REQUIRE and not isinstance(request, AuthenticationSASL):
            raise _impossible("channel binding is required, but the server does not ask for SCRAM-SHA-256")
        match request:
            case AuthenticationOk():
                self._allow(AuthMethod.TRUST, "nothing to prove who we are")
            case AuthenticationCleartextPassword():
                yield from self._finish(self._cleartext())
            case AuthenticationMD5Password():
                yield from self._finish(self._md5(request.salt))
            case AuthenticationSASL():
                client, mechanism = self._scram_client(request.mechanisms, nonce)
                yield from self._scram(client, mechanism, max_iterations)
                yield from self._finish()
            case _:
                raise _impossible(f"server asks for {_name(request)}, which is not supported")

    def greeting(self) -> Conversation[Greeting]:
        """Go on until ReadyForQuery."""
        pid, secret = 0, b""
        while True:
            tag, body = yield from self._next()
            if tag == tags.BACKEND_KEY_DATA:
                key = BackendKeyData.decode(body)
                pid, secret = key.pid, key.secret
            elif tag == tags.READY_FOR_QUERY:
                if ReadyForQuery.decode(body).status != tags.STATUS_IDLE:
                    raise UnexpectedMessage("server is in a transaction after login")
                return Greeting(self.parameters, pid, secret, self.version, self.unrecognized or ())
            else:
                raise UnexpectedMessage(f"unexpected message type {tag} from server after authentication")

    def _next(self, data: bytes = b"") -> Conversation[tuple[int, bytes]]:
        """Send `data` and return the next message that is not one of those that may come at any time."""
        while True:
            tag, body = yield from exchange(data)
            data = b""
            self.messages += 1
            if self.messages > MAX_MESSAGES:
                raise ProtocolError("server sends too many messages during login")
            if tag == tags.ERROR_RESPONSE:
                raise ServerRefused(ErrorResponse.decode(body), message(tag, body))
            if tag == tags.PARAMETER_STATUS:
                status = ParameterStatus.decode(body)
                self.parameters[status.name] = status.value
            elif tag != tags.NOTICE_RESPONSE:
                return tag, body

    def _request(self, data: bytes = b"") -> Conversation[Authentication]:
        """Send `data` and return the next authentication request."""
        tag, body = yield from self._next(data)
        if tag == tags.NEGOTIATE_PROTOCOL_VERSION:
            self._negotiate(NegotiateProtocolVersion.decode(body))
            tag, body = yield from self._next()
        if tag != tags.AUTHENTICATION:
            raise UnexpectedMessage(f"unexpected message type {tag} from server during authentication")
        return authentication.decode(body)

    def _negotiate(self, answer: NegotiateProtocolVersion) -> None:
        if self.unrecognized is not None:
            raise UnexpectedMessage("server negotiates the protocol version twice")
        if not tags.PROTOCOL_3_0 <= answer.newest_minor <= self.version:
            raise UnexpectedMessage(f"server offers protocol version {answer.newest_minor}")
        self.version = answer.newest_minor
        self.unrecognized = tuple(answer.unrecognized)

    def _finish(self, answer: bytes = b"") -> Conversation[None]:
        """Send the last answer; all that may follow is AuthenticationOk."""
        request = yield from self._request(answer)
        if not isinstance(request, AuthenticationOk):
            raise UnexpectedMessage(f"server asks for {_name(request)} after it was answered")

    def _cleartext(self) -> bytes:
        self._allow(AuthMethod.PLAIN, "a clear-text password")
        if not (self.channel.tls or self.channel.local):
            raise _impossible("server asks for a clear-text password over an unencrypted connection")
        credential = self._known()
        if not isinstance(credential, PlainSecret):
            raise _impossible(
                f"server asks for a clear-text password, but only a hash is known for {self._who()}"
            )
        return PasswordMessage(credential.password).encode()

    def _md5(self, salt: bytes) -> bytes:
        self._allow(AuthMethod.MD5, "an MD5 password")
        credential = self._known()
        if isinstance(credential, PlainSecret):
            credential = md5_secret(credential.password, self.user)
        if not isinstance(credential, Md5Secret):
            raise _impossible(
                f"server asks for an MD5 password, but only a SCRAM secret is known for {self._who()}"
            )
        return PasswordMessage(md5_response(credential, salt)).encode()

    def _scram_client(self, mechanisms: list[bytes], nonce: str | None) -> tuple[ScramClient, bytes]:
        """Choose the mechanism; whoever takes the better one out of the list is found out by flag `y`."""
        self._allow(AuthMethod.SCRAM_SHA_256, "SCRAM-SHA-256")
        offered, binding = MECHANISM_PLUS in mechanisms, self.channel.binding
        if offered and not self.channel.tls and self.channel_binding is not ChannelBinding.DISABLE:
            raise _impossible(f"server offers {MECHANISM_PLUS.decode()} over an unencrypted connection")
        plus = offered and binding is not None
        if self.channel_binding is ChannelBinding.REQUIRE and not plus:
            what = "the server does not offer it" if binding is not None else "this connection has none"
            raise _impossible(f"channel binding is required, but {what}")
        if not plus and MECHANISM not in mechanisms:
            raise _impossible("server offers no SASL mechanism that is supported")
        client = ScramClient(nonce=nonce, binding=binding, plus=plus)
        return client, MECHANISM_PLUS if plus else MECHANISM

    def _scram(self, client: ScramClient, mechanism: bytes, max_iterations: int) -> Conversation[None]:
        """Prove that we know the password, and have the server prove it."""
        self._scram_credential()
        first = SASLInitialResponse(mechanism, client.first())
        challenge = yield from self._request(first.encode())
        if not isinstance(challenge, AuthenticationSASLContinue):
            raise UnexpectedMessage(f"server sends {_name(challenge)} in the middle of SCRAM")
        salt, iterations = client.challenge(challenge.data, max_iterations)
        keys = yield from self._keys(salt, iterations)
        proof = yield from self._request(SASLResponse(client.final(keys)).encode())
        if not isinstance(proof, AuthenticationSASLFinal):
            raise UnexpectedMessage(f"server sends {_name(proof)} instead of its SCRAM signature")
        client.verify(proof.data)

    def _scram_credential(self) -> PlainSecret | ScramKeys:
        credential = self._known()
        if isinstance(credential, PlainSecret | ScramKeys):
            return credential
        raise _impossible(
            f"server asks for SCRAM-SHA-256, but no password and no SCRAM keys are known for {self._who()}"
        )

    def _keys(self, salt: bytes, iterations: int) -> Conversation[ScramKeys]:
        credential = self._scram_credential()
        if isinstance(credential, PlainSecret):
            salted = yield from derive(credential.password, salt, iterations)
            return ScramKeys.of(salted, salt, iterations)
        if (credential.salt, credential.iterations) != (salt, iterations):
            raise _impossible(f"server has another SCRAM secret than the one known for {self._who()}")
        return credential

    def _allow(self, method: AuthMethod, what: str) -> None:
        if method not in self.allowed:
            raise _impossible(f"server asks for {what}, which is not allowed")

    def _known(self) -> Secret | ScramKeys:
        if self.credential is None or self.credential == PlainSecret(b""):
            raise _impossible(f"server asks for a password, and none is known for {self._who()}")
        return self.credential

    def _who(self) -> str:
        return f'user "{self.user.decode("utf-8", "backslashreplace")}"'


def _impossible(text: str) -> LoginImpossible:
    return LoginImpossible(sqlstate.INVALID_AUTHORIZATION, text)


def _name(request: Authentication) -> str:
    return type(request).__name__
