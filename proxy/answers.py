"""What is remembered of the answers of `auth_query`: for how long, for how many names, what kind of secret is
usual, and who asks too much.

Plain data structures; time (nanoseconds) is an argument. Whatever clients choose, names and addresses, is
bounded here.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

from config.effective import AuthSource
from protocol.login import Secret
from proxy.pool.units import SECOND

MOST_NAMES: Final = 10_000
MOST_ADDRESSES: Final = 10_000
UNKNOWN_FOR: Final = 5.0
"""Seconds for which it is believed that a name is unknown, if known ones are believed that long."""
LONGEST_WAIT: Final = 5 * SECOND
"""Who would have to wait longer than this is refused."""


class Asked(NamedTuple):
    """Which name was asked about where."""

    source: AuthSource
    user: str


class Known(NamedTuple):
    """An answer: the secrets of a user, None for a name that is unknown; and when it came."""

    secrets: list[Secret] | None
    at: int


class Answers:
    """The latest of at most `most` names; those used least recently go first."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: OrderedDict[Asked, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, asked: Asked, now: int, seconds: float) -> Known | None:
        """The answer, if it came less than this many seconds ago (known to nobody: fewer)."""
        known = self._known.get(asked)
        if known is None:
            return None
        if now - known.at >= (seconds if known.secrets is not None else min(seconds, UNKNOWN_FOR)) * SECOND:
            del self._known[asked]
            return None
        self._known.move_to_end(asked)
        return known

    def put(self, asked: Asked, known: Known) -> None:
        """Remember an answer."""
        self._known[asked] = known
        self._known.move_to_end(asked)
        if len(self._known) > self._most:
            self._known.popitem(last=False)


class Kinds:
    """What kind of secret most users have of whom an answer told: by its iterations, None if it is no SCRAM
    verifier. Each of the latest `most` users counts once, so that nobody sets it who only sets his own.
    """

    def __init__(self, first: int | None, most: int = MOST_NAMES) -> None:
        self.usual = first
        self._most = most
        self._of: OrderedDict[str, int | None] = OrderedDict()
        self._counts: Counter[int | None] = Counter()

    def __len__(self) -> int:
        return len(self._of)

    def note(self, user: str, kind: int | None) -> None:
        """An answer told of a user's secret."""
        if user in self._of:
            self._forget(self._of.pop(user))
        elif len(self._of) >= self._most:
            self._forget(self._of.popitem(last=False)[1])
        self._of[user] = kind
        self._counts[kind] += 1
        most = max(self._counts, key=self._counts.__getitem__)
        if self._counts[most] > self._counts[self.usual]:
            self.usual = most

    def _forget(self, kind: int | None) -> None:
        self._counts[kind] -= 1
        if not self._counts[kind]:
            del self._counts[kind]


class Throttle:
    """How long an address waits before it may ask again: unknown names and questions that fail cost, known
    names do not.

    An address has one second's worth to spend at once. When that is spent every further question waits its
    turn, whatever its name, so that waiting tells nothing about the name; but for names that have logged in
    from there: who shares an address with others is not to be shut out by them.
    """

    def __init__(self, most: int = MOST_ADDRESSES) -> None:
        self._most = most
        self._guests: OrderedDict[tuple[Hashable, str], None] = OrderedDict()
        # Up to when what was spent is worth (ns); in the past: all is earned back.
        self._spent: OrderedDict[Hashable, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._spent)

    def welcome(self, address: str, user: str) -> None:
        """The user has logged in from there."""
        guest = group(address), user
        self._guests[guest] = None
        self._guests.move_to_end(guest)
        if len(self._guests) > self._most:
            self._guests.popitem(last=False)

    def knows(self, address: str, user: str) -> bool:
        """Whether the user is one of the latest who have."""
        return (group(address), user) in self._guests

    def wait(self, address: str, rate: int, now: int) -> int | None:
        """How long the next question of this address has to wait (ns); None: too long to wait at all.

        Where it has to wait its cost is taken at once, so that the next one queues behind it.
        """
        over = self._spent.get(group(address), now) - now - SECOND
        if not rate or over < 0:
            return 0
        if over > LONGEST_WAIT:
            return None
        self.charge(address, rate, now)
        return over + SECOND // rate

    def charge(self, address: str, rate: int, now: int) -> None:
        """The address has asked about an unknown name, or what could not be answered."""
        key = group(address)
        if rate:
            self._spent[key] = max(self._spent.get(key, now), now) + SECOND // rate
            self._spent.move_to_end(key)
            if len(self._spent) > self._most:
                self._spent.popitem(last=False)

    def refund(self, address: str, rate: int) -> None:
        """The name that was charged for was known."""
        key = group(address)
        if rate and key in self._spent:
            self._spent[key] -= SECOND // rate


def group(address: str) -> Hashable:
    """What counts as one address: of IPv6 the half that names a network, for the other is free to choose."""
    if ":" not in address:
        return address
    try:
        return int(ipaddress.IPv6Address(address.partition("%")[0])) >> 64
    except ValueError:
        return address
