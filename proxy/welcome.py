"""What a client is told once it is in: AuthenticationOk and the parameters, encoded once for all who ask for
the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from protocol.authentication import AuthenticationOk
from protocol.backend import ParameterStatus
from proxy.pool.parameters import Values

if TYPE_CHECKING:
    from proxy.pool.interfaces import PoolKey
    from proxy.pool.pool import Pool

# Beyond this many different ones the table starts anew.
_MOST: Final = 1000


@dataclass(frozen=True)
class Welcome:
    """`values` are what the session has at its beginning; `greeting` is the pool's that it was made of."""

    greeting: dict[bytes, bytes]
    values: Values
    data: bytes


class Welcomes:
    """Of all pools."""

    def __init__(self) -> None:
        self._known: dict[tuple[PoolKey, tuple[bytes, ...]], Welcome] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, pool: "Pool", tracked: Mapping[bytes, bytes]) -> Welcome:
        """For a client that asks for these tracked parameters; the pool has heard a greeting."""
        greeting, form = pool.greeting, pool.accepted.form
        assert greeting is not None
        asked = {name: form(name, value) or value for name, value in tracked.items()}
        key = pool.key, tuple(part for item in asked.items() for part in item)
        known = self._known.get(key)
        if known is None or known.greeting is not greeting:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[key] = _make(pool, greeting, asked)
        return known


def _make(pool: "Pool", greeting: dict[bytes, bytes], asked: dict[bytes, bytes]) -> Welcome:
    tracked = pool.tracked
    values = tracked.overlay(tracked.overlay(tracked.unknown, greeting), asked)
    current = zip(tracked.names, values, strict=True)
    told = greeting | {name: value for name, value in current if value is not None}
    return Welcome(greeting, values, encoded(told))


def encoded(greeting: Mapping[bytes, bytes]) -> bytes:
    """AuthenticationOk and these parameters."""
    parts = [ParameterStatus(name, value).encode() for name, value in greeting.items()]
    return AuthenticationOk().encode() + b"".join(parts)
