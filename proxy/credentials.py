"""The secrets of the auth file, parsed: what clients are checked against, and what we log in to servers
with.
"""

import logging
from typing import TYPE_CHECKING, Final

from config.settings import Settings
from protocol.login import (
    LoginResult,
    Md5Secret,
    PlainSecret,
    ScramKeys,
    ScramVerifier,
    Secret,
    parse_secret,
)
from proxy.log import printable

if TYPE_CHECKING:
    from proxy.pool.pool import Pool

logger = logging.getLogger("howdah")

NO_PASSWORD: Final = PlainSecret(b"")
"""Of a user whom the auth file names with an empty secret: trusted if anybody is, and let in by no
password.
"""


def secrets_of(settings: Settings, user: str) -> list[Secret]:
    """What the auth file has for a user; empty for a user it does not name."""
    listed = settings.credentials.get(user)
    if listed is None:
        return []
    secrets: list[Secret] = []
    for secret in listed:
        try:
            secrets.append(parse_secret(secret.reveal()))
        except ValueError as error:
            logger.warning("secret of user %s is of no use: %s", printable(user), error)
    return secrets or [NO_PASSWORD]


def learn_credential(pool: "Pool", result: LoginResult) -> None:
    """What let a client in may open servers as the same user, too.

    The keys of a SCRAM login do, where they fit a verifier that the server has as well; and a secret that was
    not in the auth file. A new one is tried at once, whatever became of the one before.
    """
    if pool.forced_user or result.secret is None:
        return
    found: Secret | ScramKeys | None = result.keys
    if not isinstance(result.secret, ScramVerifier):
        listed = pool.key.user in pool.common.credentials
        found = None if listed or result.secret == NO_PASSWORD else result.secret
    if found is not None and found != pool.credential:
        pool.credential = found
        pool.hold_off(0)


def credential_of(pool: "Pool") -> Secret | ScramKeys | None:
    """With what to log in to servers: the configured password, else a plain one of auth_file's, else what a
    client's own login showed, if that is not out of date, else what auth_file has.
    """
    if pool.settings.password is not None:
        return parse_secret(pool.settings.password.reveal())
    secrets = [secret for secret in secrets_of(pool.common, pool.key.user) if secret != NO_PASSWORD]
    plain = next((secret for secret in secrets if isinstance(secret, PlainSecret)), None)
    if plain is not None:
        return plain
    learnt = pool.credential
    if isinstance(learnt, ScramKeys) and _fits(learnt, secrets):
        return learnt
    if secrets:
        return secrets[0]
    return learnt if isinstance(learnt, PlainSecret | Md5Secret | ScramKeys) else None


def _fits(keys: ScramKeys, secrets: list[Secret]) -> bool:
    """Whether the verifier that these keys belong to is still the user's, as far as the auth file knows."""
    verifiers = [secret for secret in secrets if isinstance(secret, ScramVerifier)]
    return not verifiers or keys.verifier() in verifiers
