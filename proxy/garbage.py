"""When the collector of reference cycles looks at everything, and when only at what is young.

It stands still for all that lives: 16 µs for each client, which is much in a turn of the loop when there are
thousands, and of itself it looks again whenever a quarter more has come: in the middle of a storm of logins.
Connections are freed without it. So everything is looked at by the janitor's clock, when so many have gone
that some may have left a cycle behind, and nobody waits for his login.
"""

import gc
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.lobby import Lobby

# Young objects are looked at in lots of so many, and in a few such lots: some 3 ms at a time.
_YOUNG: Final = 1_000
_LOTS: Final = 5
_NEVER: Final = 1_000_000_000
# Clients that must have gone, at least and for each there is.
_LEAST: Final = 20_000
_SHARE: Final = 2
# Lots of lots after which it is time even though few clients have gone.
_LONG: Final = 200


class Garbage:
    """Of the process."""

    def __init__(self) -> None:
        self._closed = 0

    def settle(self) -> None:
        """All is built: what lives now lives to the end, and need not be looked at again and again."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG, _LOTS, _NEVER)

    @staticmethod
    def young() -> None:
        """Look at what is young, before it has become much.

        The collector's own count of it is wrong where objects are taken from lists of free ones.
        """
        gc.collect(1)

    def sweep(self, lobby: "Lobby") -> bool:
        """Look at everything if it is time."""
        closed, present = lobby.closed_clients.total(), len(lobby.clients)
        enough = closed - self._closed >= max(_LEAST, present * _SHARE) or gc.get_count()[2] >= _LONG
        if len(lobby.turnstile) or not enough:
            return False
        self._closed = closed
        gc.collect()
        return True
