"""The secrets of the auth file, parsed: what clients are checked against, and what we log in to servers
with.
"""

import logging
from typing import TYPE_CHECKING, Final

from config.settings import Settings
from protocol.login import PlainSecret, ScramKeys, Secret, parse_secret
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


def credential_of(pool: "Pool") -> Secret | ScramKeys | None:
    """With what to log in to servers: the configured password, else auth_file's, else the keys a client's own
    login showed.
    """
    if pool.settings.password is not None:
        return parse_secret(pool.settings.password.reveal())
    secrets = [secret for secret in secrets_of(pool.common, pool.key.user) if secret != NO_PASSWORD]
    plain = next((secret for secret in secrets if isinstance(secret, PlainSecret)), None)
    if plain is not None:
        return plain
    if isinstance(pool.credential, ScramKeys):
        return pool.credential
    return secrets[0] if secrets else None
