"""Names of hosts to addresses, off the event loop, remembered for dns_max_ttl and dns_nxdomain_ttl.

Several addresses of one name take turns, as in PgBouncer.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from config.settings import Settings


@dataclass(slots=True)
class Answer:
    """What is remembered of a name. `expires` is a time of the loop's clock (s)."""

    addresses: list[str]
    error: OSError | None
    expires: float
    turn: int = 0


class Resolver:
    """`settings` gives the present settings."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self.answers: dict[str, Answer] = {}
        self._asking: dict[str, asyncio.Future[Answer]] = {}

    @property
    def pending(self) -> int:
        """Questions under way."""
        return len(self._asking)

    def remembered(self) -> list[tuple[str, int, list[str]]]:
        """What is known at the moment: name, seconds left, addresses."""
        now = asyncio.get_running_loop().time()
        return [
            (name, max(int(answer.expires - now), 0), answer.addresses)
            for name, answer in self.answers.items()
        ]

    async def resolve(self, name: str) -> list[str]:
        """Addresses of a name, each call beginning with the next one. Raises OSError when there are none."""
        answer = self.answers.get(name)
        if answer is None or answer.expires <= asyncio.get_running_loop().time():
            answer = await self._ask_once(name)
        if answer.error is not None:
            raise answer.error
        answer.turn += 1
        first = answer.turn % len(answer.addresses)
        return answer.addresses[first:] + answer.addresses[:first]

    async def _ask_once(self, name: str) -> Answer:
        """One question at a time for each name; whoever waits for it may be cancelled without harm."""
        asking = self._asking.get(name)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(name))
            self._asking[name] = asking
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        return await asyncio.shield(asking)

    async def _ask(self, name: str) -> Answer:
        loop = asyncio.get_running_loop()
        settings = self._settings()
        try:
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            answer = Answer(addresses, None, loop.time() + settings.dns_max_ttl)
        except (OSError, ValueError) as error:
            # What cannot be a name at all (an empty label, one that is too long) makes the codec fail.
            failure = error if isinstance(error, OSError) else OSError(f"{name}: {error}")
            answer = Answer([], failure, loop.time() + settings.dns_nxdomain_ttl)
        self.answers[name] = answer
        return answer
