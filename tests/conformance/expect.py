"""What tests of the wire say again and again about what comes back, and how long that may take.

Law: a target may have words of its own for a refusal; how often it refuses, when,
and what becomes of the connection is the same for all.
"""

import contextlib
import threading
import time
from collections.abc import Callable

import pytest

from tests.conformance import direct
from tests.support import messages as m
from tests.support.pooler import Pooler
from tests.support.script import Conversation
from tests.support.standard import ONE
from tests.support.target import Target
from tests.support.wire import LoginRefused, Raw

BUSY = 5.0
"""Seconds that a busy machine may add to whatever a law says about time."""
PROMPTLY = 1.0 + BUSY
"""A pooler needs a few milliseconds."""

MIB = 1024 * 1024

ENDS = ("close", "reset", "half-close")
"""How one side of a connection may vanish."""
QUIET = {"log_connections": 0, "log_disconnections": 0, "log_pooler_errors": 0}
"""Settings for thousands of connections."""

Normal = tuple[bytes, object]

_PLACES = frozenset("FLRV")
"""Fields of an error that name a place in the server's source, or repeat the severity."""


# --- refusals ------------------------------------------------------------------------------------


def the_only_error(got: list[m.Message]) -> m.Fields:
    """The fields of the one ErrorResponse, which must be the last message."""
    assert m.tags(got).count("E") == 1, got
    assert got[-1].tag == b"E", got
    return m.fields_of(got[-1].body)


def refusal(client: Raw, within: float = PROMPTLY) -> m.Fields:
    """The one FATAL after which the other side hangs up."""
    fields = the_only_error(client.until_closed(within=within))
    assert fields["S"] == "FATAL", fields
    return fields


def hung_up_on(pooler: Pooler, client: Raw) -> None:
    """The other side hangs up at once; who is not Howdah may say why in one FATAL."""
    got = client.until_closed(within=PROMPTLY)
    if pooler.kind == "howdah" or not got:
        assert got == []
    else:
        assert the_only_error(got)["S"] == "FATAL"


def login_refused(pooler: Pooler, database: str | None = None, user: str | None = None) -> m.Fields:
    """What a login by trust is refused with."""
    with pytest.raises(LoginRefused) as caught:
        pooler.raw(database, user)
    return caught.value.fields


def wording(pooler: Pooler, poolers: str, *, postgresql: str) -> str:
    """PgBouncer's text, which is ours too, or PostgreSQL's."""
    return postgresql if pooler.kind == direct.KIND else poolers


def sqlstates(got: list[m.Message]) -> list[str]:
    return [fields["C"] for fields in m.errors(got)]


# --- replies -------------------------------------------------------------------------------------


def normal(got: list[m.Message]) -> list[Normal]:
    """Messages without what may differ between two servers: places in the source code."""

    def body(message: m.Message) -> object:
        if message.tag in (b"E", b"N"):
            return tuple(sorted(f for f in m.fields_of(message.body).items() if f[0] not in _PLACES))
        return message.body

    return [(message.tag, body(message)) for message in got if message.tag != b"S"]


def replies(target: Target, database: str, syncs: int, data: bytes) -> list[Normal]:
    """What comes back for these bytes up to so many ReadyForQuery, sent while reading."""
    with target.raw(database) as client:
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        got = [message for _ in range(syncs) for message in client.until(within=30)]
        sender.join()
        assert client.silent_for(0.02)
        assert client.value("select 'after'") == "after"
        return normal(got)


# --- who has the server ----------------------------------------------------------------------------


def rival_waits(pooler: Pooler, rival: Raw) -> None:
    """A rival on the pool of one server asks, and has to wait."""
    rival.send(m.query("select 'rival'"))
    pooler.wait_for_pool(ONE, cl_waiting=1)
    assert rival.silent_for(0.2)


def rival_is_served(rival: Raw) -> None:
    assert m.rows(rival.until()) == [["rival"]]


def refusing(sqlstate: str, text: str) -> Callable[[Conversation], None]:
    """A script of a fake server that lets nobody in."""
    return lambda conversation: conversation.refuse(sqlstate, text)


# --- memory ----------------------------------------------------------------------------------------


def grown(pooler: Pooler, before: int, seconds: float) -> int:
    """The most by which resident memory exceeds `before` within that time."""
    most, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        most = max(most, pooler.rss() - before)
        time.sleep(0.02)
    return most


def heard(client: Raw) -> bytes:
    """All that comes until the connection ends, in whatever way."""
    data = bytearray()
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            data += client.take(1)
    return bytes(data)
