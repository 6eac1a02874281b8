"""The secrets of the auth file, parsed: what clients are checked against, and what we log in to servers
with.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from config.settings import Settings
from protocol import sqlstate
from protocol.login import (
    LoginResult,
    PlainSecret,
    ScramKeys,
    ScramVerifier,
    Secret,
    is_empty,
    parse_secret,
)
from protocol.scram import MAX_STORED_ITERATIONS
from proxy.log import printable

if TYPE_CHECKING:
    from proxy.pool.pool import Pool

logger = logging.getLogger("howdah")

NO_PASSWORD: Final = PlainSecret(b"")
"""Of a user whom the auth file names with an empty secret: trusted if anybody is, and let in by no
password.
"""


LEARNT_MOST: Final = 2
"""Of a rotation there are an old and a new one."""


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


def usual_iterations(settings: Settings) -> int | None:
    """Those of most SCRAM verifiers of the auth file; None where most of its secrets are of other kinds."""
    kinds: Counter[bytes] = Counter()
    for listed in settings.credentials.values():
        for secret in listed:
            head, _, rest = secret.reveal().partition(b"$")
            iterations = rest.partition(b":")[0]
            kinds[iterations if head == b"SCRAM-SHA-256" and _is_usable(iterations) else b""] += 1
    ((usual, _),) = kinds.most_common(1) or [(b"", 0)]
    return int(usual) if usual else None


def _is_usable(iterations: bytes) -> bool:
    """Whether a verifier may have so many."""
    return iterations.isdigit() and len(iterations) < 10 and 0 < int(iterations) <= MAX_STORED_ITERATIONS


@dataclass
class Credentials:
    """What a pool's servers may be opened with, beside what is configured. `learnt`: from clients' logins,
    the latest first. `served`: by which a server was opened last; `refused`: how many were not taken since.
    """

    learnt: list[Secret | ScramKeys] = field(default_factory=list)
    served: Secret | ScramKeys | None = None
    refused: int = 0


def learn_credential(pool: "Pool", result: LoginResult) -> None:
    """What let a client in may open servers as the same user, too.

    The keys of a SCRAM login do, where they fit a verifier that the server has as well; and a secret that was
    not in the auth file. A new one is tried at once, whatever became of those before.
    """
    if pool.forced_user or result.secret is None:
        return
    found: Secret | ScramKeys | None = result.keys
    if not isinstance(result.secret, ScramVerifier):
        listed = pool.key.user in pool.common.credentials
        found = None if listed or is_empty(result.secret) else result.secret
    credentials = _of(pool)
    if found is not None and found not in credentials.learnt:
        credentials.learnt = [found, *credentials.learnt[: LEARNT_MOST - 1]]
        credentials.refused = 0
        pool.hold_off(0)


def credential_of(pool: "Pool") -> Secret | ScramKeys | None:
    """With what to log in to servers: the configured password, else a plain one of auth_file's, else what a
    client's own login showed, if that is not out of date, else what auth_file has. Of several, the one that
    served last comes first.
    """
    choices = _choices(pool)
    return choices[_of(pool).refused % len(choices)] if choices else None


def credential_refused(pool: "Pool", code: str) -> bool:
    """PostgreSQL has refused a login: whether another secret is to be tried, as while passwords change."""
    credentials = _of(pool)
    if code not in (sqlstate.INVALID_PASSWORD, sqlstate.INVALID_AUTHORIZATION):
        return False
    credentials.refused += 1
    if credentials.refused < len(_choices(pool)):
        return True
    credentials.refused = 0
    return False


def credential_taken(pool: "Pool") -> None:
    """PostgreSQL has let us in."""
    credentials = _of(pool)
    credentials.served = credential_of(pool)
    credentials.refused = 0


def _of(pool: "Pool") -> Credentials:
    if not isinstance(pool.credential, Credentials):
        pool.credential = Credentials()
    return pool.credential


def _choices(pool: "Pool") -> Sequence[Secret | ScramKeys]:
    if pool.settings.password is not None:
        return [parse_secret(pool.settings.password.reveal())]
    secrets = [secret for secret in secrets_of(pool.common, pool.key.user) if not is_empty(secret)]
    choices: list[Secret | ScramKeys] = [one for one in secrets if isinstance(one, PlainSecret)]
    if not choices:
        # A verifier opens nothing; it is kept for the error that says so.
        hashed = [secret for secret in secrets if not isinstance(secret, ScramVerifier)]
        choices = [*(one for one in _of(pool).learnt if _fits(one, secrets)), *hashed] or [*secrets]
    served = _of(pool).served
    return sorted(choices, key=lambda choice: choice != served)


def _fits(learnt: Secret | ScramKeys, secrets: list[Secret]) -> bool:
    """Whether keys are those of a verifier that is still the user's, as far as the auth file knows."""
    verifiers = [secret for secret in secrets if isinstance(secret, ScramVerifier)]
    return not (verifiers and isinstance(learnt, ScramKeys)) or learnt.verifier() in verifiers
