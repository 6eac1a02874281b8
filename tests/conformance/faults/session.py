"""Plays a golden session through a broken network, and keeps every byte that comes back.

Law: a client waits for as many bytes as PostgreSQL would send, for the end of
its connection, or until its patience is over.
"""

import time
from dataclasses import dataclass, field

from tests.conformance.faults.golden import Stage
from tests.support import messages as m
from tests.support.wire import Raw


@dataclass
class Heard:
    """`login`: the tag that ended it, nothing if none came. `due`: the replies to what was sent."""

    login: bytes = b""
    refusal: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    due: bytes = b""
    closed: bool = False

    @property
    def complete(self) -> bool:
        return bool(self.due) and self.data == self.due


def play(raw: Raw, user: str, database: str, stages: list[Stage], patience: float) -> Heard:
    """Logs in and plays; `patience` (seconds) is for each reply."""
    heard = Heard()
    raw.send_quietly(m.startup({"user": user, "database": database}))
    _log_in(raw, heard, patience)
    for stage in stages:
        if heard.login != b"Z" or heard.closed or not raw.send_quietly(stage.request):
            break
        heard.due += stage.reply
        if not _hear(raw, heard, patience):
            break
    if heard.login == b"Z":
        _hear_the_rest(raw, heard)
    return heard


def _log_in(raw: Raw, heard: Heard, patience: float) -> None:
    try:
        last = raw.until(b"Z", b"E", within=patience)[-1]
    except (EOFError, ConnectionError):
        heard.closed = True
    except TimeoutError:
        pass
    else:
        heard.login = last.tag
        heard.refusal = last.body if last.tag == b"E" else b""


def _hear(raw: Raw, heard: Heard, patience: float) -> bool:
    """Hears until all is there that is due."""
    deadline = time.monotonic() + patience
    while len(heard.data) < len(heard.due):
        if not _take(raw, heard, deadline):
            return False
    return True


def _hear_the_rest(raw: Raw, heard: Heard) -> None:
    """What is there already; where a reply is not whole, up to the end of the connection."""
    while not heard.closed and (not heard.complete or not raw.silent_for(0)):
        if not _take(raw, heard, time.monotonic() + 1):
            return


def _take(raw: Raw, heard: Heard, deadline: float) -> bool:
    try:
        heard.data += raw.take(1, deadline)
    except (EOFError, ConnectionError):
        heard.closed = True
        return False
    except TimeoutError:
        return False
    return True
