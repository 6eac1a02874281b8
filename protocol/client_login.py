"""Our login conversation with a client: does it know one of the secrets stored for its user?

An unknown user is one without secrets. It gets the exchange that a known one gets, with a salt that never
changes, and the same answer; nothing about the reason is said before the exchange is over, or ever.
AuthenticationOk is not sent here: it begins the welcome, which is the caller's.
"""

import functools
import hmac
import secrets as random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeGuard

from . import sqlstate, tags
from .authentication import (
    SALT_LENGTH,
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
)
from .conversation import AuthMethod, Conversation, LoginFailed, derive, exchange
from .errors import UnexpectedMessage
from .frontend import PasswordMessage
from .scram import (
    DEFAULT_ITERATIONS,
    MECHANISM,
    MECHANISM_PLUS,
    ScramError,
    ScramKeys,
    ScramServer,
    ScramVerifier,
)
from .secret import Md5Secret, PlainSecret, Secret, is_empty, md5_response, md5_secret
from .wire import Reader, message

_SALT_LENGTH: Final = 16
# What is offered without and with channel binding, and the message that says so.
_OFFERS: Final = tuple(
    (mechanisms, AuthenticationSASL(mechanisms).encode())
    for mechanisms in ([MECHANISM], [MECHANISM_PLUS, MECHANISM])
)


@dataclass(init=False)
class LoginResult:
    """A client that is in.

    `reply` must still be sent to it, in front of AuthenticationOk. `secret` is the one it knew. `keys` are
    what its proof revealed; they open a server that stores the same SCRAM verifier. `bound`: to the TLS
    connection it came by.
    """

    reply: bytes
    secret: Secret | None
    keys: ScramKeys | None
    bound: bool

    # What dataclasses write themselves is never compiled: each login would pay for it.
    def __init__(
        self,
        reply: bytes = b"",
        secret: Secret | None = None,
        keys: ScramKeys | None = None,
        bound: bool = False,
    ) -> None:
        self.reply = reply
        self.secret = secret
        self.keys = keys
        self.bound = bound


def client_login(
    method: AuthMethod,
    user: bytes,
    secrets: Sequence[Secret],
    *,
    mock_key: bytes,
    iterations: int = DEFAULT_ITERATIONS,
    nonce: str | None = None,
    md5_salt: bytes | None = None,
    binding: bytes | None = None,
) -> Conversation[LoginResult]:
    """Converse with a client whose startup packet was read.

    `secrets`: any of them lets it in; none means that the user is unknown. `mock_key` makes the salts of
    unknown users and of plain secrets: secret, and the same for all workers and restarts. `iterations`: of
    SCRAM exchanges without a stored verifier. `nonce` and `md5_salt` are drawn at random unless given.
    `binding`: data of tls-server-end-point where the client came by TLS. Raises LoginFailed, and
    ProtocolError for malformed messages.
    """
    if method is AuthMethod.ANY:
        return LoginResult()
    if method is AuthMethod.TRUST:
        if not secrets:
            raise LoginFailed(sqlstate.INVALID_AUTHORIZATION, '"trust" authentication failed')
        return LoginResult(secret=secrets[0])
    usable = [secret for secret in secrets if not is_empty(secret)]
    if method is AuthMethod.PLAIN:
        return (yield from _plain_login(user, usable))
    if method is AuthMethod.MD5 and not _only_scram_serves(usable):
        return (yield from _md5_login(user, usable, md5_salt or random.token_bytes(SALT_LENGTH)))
    offer = _Offer(user, usable, mock_key, iterations)
    return (yield from _scram_login(offer, nonce, binding))


def _only_scram_serves(secrets: Sequence[Secret]) -> bool:
    """PgBouncer's auth_type md5 turns to SCRAM for a user whose secret is a verifier."""
    kinds = {type(secret) for secret in secrets}
    return ScramVerifier in kinds and Md5Secret not in kinds


def _plain_login(user: bytes, secrets: Sequence[Secret]) -> Conversation[LoginResult]:
    password = yield from _password(AuthenticationCleartextPassword().encode())
    for secret in secrets:
        if isinstance(secret, ScramVerifier):
            salted = yield from derive(password, secret.salt, secret.iterations)
            keys = ScramKeys.of(salted, secret.salt, secret.iterations)
            if hmac.compare_digest(keys.verifier().stored_key, secret.stored_key):
                return LoginResult(secret=secret, keys=keys)
        elif isinstance(secret, Md5Secret):
            if hmac.compare_digest(md5_secret(password, user).digest, secret.digest):
                return LoginResult(secret=secret)
        elif hmac.compare_digest(password, secret.password):
            return LoginResult(secret=secret)
    raise _wrong_password()


def _md5_login(user: bytes, secrets: Sequence[Secret], salt: bytes) -> Conversation[LoginResult]:
    answer = yield from _password(AuthenticationMD5Password(salt).encode())
    for secret in secrets:
        hashed = md5_secret(secret.password, user) if isinstance(secret, PlainSecret) else secret
        if isinstance(hashed, Md5Secret) and hmac.compare_digest(answer, md5_response(hashed, salt)):
            return LoginResult(secret=secret)
    raise _wrong_password()


def _password(request: bytes) -> Conversation[bytes]:
    """Ask for a password and return what came, which is not empty."""
    body = yield from _answer(request, "password")
    password = PasswordMessage.decode(body).password
    if not password:
        raise LoginFailed(sqlstate.INVALID_PASSWORD, "empty password returned by client")
    return password


def _wrong_password() -> LoginFailed:
    return LoginFailed(sqlstate.INVALID_PASSWORD, "password authentication failed")


def _answer(request: bytes, what: str) -> Conversation[bytes]:
    tag, body = yield from exchange(request)
    if tag != tags.PASSWORD:
        raise UnexpectedMessage(f"expected {what} response, got message type {tag}")
    return body


class _Offer:
    """What a SCRAM exchange can be begun with: one salt for all secrets that are to have a chance.

    Plain secrets suit any salt. Of verifiers only those with the salt and iterations of the first do: the
    protocol lets a server name one salt, before it has seen anything of the password.
    """

    def __init__(self, user: bytes, secrets: Sequence[Secret], mock_key: bytes, iterations: int) -> None:
        self.secrets = secrets
        self.mock_key = mock_key
        self.iterations = iterations
        for secret in secrets:
            if isinstance(secret, ScramVerifier):
                self.salt: bytes = secret.salt
                self.iterations = secret.iterations
                break
        else:
            self.salt = made_up_salt(mock_key, user)

    def opened_by(self, server: ScramServer) -> Conversation[LoginResult | None]:
        """Return the result for the secret that the client's proof was made from, None if there is none.

        An unknown user goes the way of a known one, with a made-up verifier that lets nobody in.
        """
        # As a stored key the mock key will do: nobody knows what it is the hash of.
        made_up = ScramVerifier(self.iterations, self.salt, self.mock_key, b"")
        for secret in [secret for secret in self.secrets if self._fits(secret)] or [made_up]:
            if isinstance(secret, PlainSecret):
                salted = yield from derive(secret.password, self.salt, self.iterations)
                verifier = _verifier(salted, self.salt, self.iterations)
            else:
                verifier = secret
            keys = server.keys(verifier)
            if keys and secret is not made_up:
                return LoginResult(_sasl(AuthenticationSASLFinal.code, server.answer(keys)), secret, keys)
        return None

    def _fits(self, secret: Secret) -> TypeGuard[PlainSecret | ScramVerifier]:
        if isinstance(secret, ScramVerifier):
            return secret.salt == self.salt and secret.iterations == self.iterations
        return isinstance(secret, PlainSecret)


def made_up_salt(mock_key: bytes, user: bytes) -> bytes:
    """The salt of a user of whom no verifier is known: the same whenever the name is asked about."""
    return hmac.digest(mock_key, b"salt\0" + user, "sha256")[:_SALT_LENGTH]


@functools.lru_cache(maxsize=1000)
def _verifier(salted_password: bytes, salt: bytes, iterations: int) -> ScramVerifier:
    return ScramKeys.of(salted_password, salt, iterations).verifier()


def _scram_login(offer: _Offer, nonce: str | None, binding: bytes | None) -> Conversation[LoginResult]:
    mechanisms, request = _OFFERS[binding is not None]
    initial = Reader((yield from _answer(request, "SASL")))
    # As SASLInitialResponse is laid out; messages are not compiled.
    mechanism, client_first = initial.string(), initial.value()
    initial.expect_end()
    if mechanism not in mechanisms:
        raise LoginFailed(
            sqlstate.PROTOCOL_VIOLATION, "client selected an invalid SASL authentication mechanism"
        )
    if client_first is None:
        client_first = yield from _answer(_sasl(AuthenticationSASLContinue.code, b""), "SASL")
    server = ScramServer(
        offer.salt,
        offer.iterations,
        nonce=nonce,
        binding=binding,
        plus=mechanism == MECHANISM_PLUS,
    )
    try:
        challenge = _sasl(AuthenticationSASLContinue.code, server.first(client_first))
        server.final((yield from _answer(challenge, "SASL")))
    except ScramError:
        raise _wrong_proof() from None
    result = yield from offer.opened_by(server)
    if result is None:
        raise _wrong_proof()
    result.bound = mechanism == MECHANISM_PLUS
    return result


def _sasl(code: int, data: bytes) -> bytes:
    """The message of tag `R` with this code and data."""
    return message(tags.AUTHENTICATION, code.to_bytes(4, "big") + data)


def _wrong_proof() -> LoginFailed:
    return LoginFailed(sqlstate.INVALID_PASSWORD, "SASL authentication failed")
