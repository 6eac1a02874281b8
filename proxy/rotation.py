"""Which of a user's SCRAM verifiers a client is asked by: an exchange has room for the salt of one.

While a password is rotated both have a verifier. The one by which the clients of an address come in is asked
by there; after a login that fails the next one is asked by the other.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final

from protocol.login import ScramVerifier, Secret
from proxy.answers import group

MOST: Final = 10_000


class Rotation:
    """Of so many users at addresses; those used least recently begin with the first verifier again."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._turns: OrderedDict[tuple[str, Hashable], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._turns)

    def ordered(self, user: str, address: str, secrets: Sequence[Secret]) -> list[Secret]:
        """The secrets, with the verifier first whose turn it is."""
        verifiers = [secret for secret in secrets if isinstance(secret, ScramVerifier)]
        if not _several(verifiers):
            return list(secrets)
        turn = self._turns.get((user, group(address)), 0) % len(verifiers)
        others = [secret for secret in secrets if not isinstance(secret, ScramVerifier)]
        return [*verifiers[turn:], *verifiers[:turn], *others]

    def failed(self, user: str, address: str, secrets: Sequence[Secret]) -> None:
        """Nobody came in by these: the next one has its turn."""
        if not _several([secret for secret in secrets if isinstance(secret, ScramVerifier)]):
            return
        key = user, group(address)
        self._turns[key] = self._turns.get(key, 0) + 1
        self._turns.move_to_end(key)
        if len(self._turns) > self._most:
            self._turns.popitem(last=False)


def _several(verifiers: Sequence[ScramVerifier]) -> bool:
    return len({(verifier.salt, verifier.iterations) for verifier in verifiers}) > 1
