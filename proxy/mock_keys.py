"""What the salts of users without a verifier are made from: secret, and the same after a restart.

Where `mock_authentication_nonce` is set, it is that. Else a name's key is made of two secrets of the
configuration, which the name picks by a hash. So one configuration gives the same salts in all processes,
who knows his own secret only can compute none, and where one of many secrets changes, so do the salts of as
few unknown names as known ones. Without any secret it is the number of this start of the machine.
"""

import hmac
import secrets as random
from bisect import bisect
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from config.settings import Settings
from proxy.names import to_wire

_BOOT: Final = "/proc/sys/kernel/random/boot_id"


class MockKeys:
    """For these settings."""

    def __init__(self, settings: Settings) -> None:
        picked = sorted(
            {(_digest(secret, b"place"), _digest(secret, b"key")) for secret in _secrets(settings)}
        )
        self._places = [place for place, _ in picked]
        keys = [key for _, key in picked]
        self._keys = [_digest(key, keys[(at + 1) % len(keys)]) for at, key in enumerate(keys)]

    def of(self, user: str) -> bytes:
        """The key for this name."""
        at = bisect(self._places, sha256(to_wire(user)).digest())
        return self._keys[at % len(self._keys)]


def _secrets(settings: Settings) -> Iterator[bytes]:
    if settings.mock_authentication_nonce is not None:
        yield settings.mock_authentication_nonce.reveal()
        return
    listed = [secret.reveal() for secrets in settings.credentials.values() for secret in secrets]
    entries = [entry.password.reveal() for entry in settings.databases.values() if entry.password is not None]
    yield from [*listed, *entries] or [_of_this_start()]


def _of_this_start() -> bytes:
    """Known to nobody on another machine, the same for every process on this one."""
    try:
        with open(_BOOT, "rb") as file:
            return file.read()
    except OSError:
        return _OF_THIS_PROCESS


_OF_THIS_PROCESS: Final = random.token_bytes(32)


def _digest(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, b"mock " + text, "sha256")
