"""What is looked at in a stream, and how long each message may be: tables by tag, 256 entries each.

Law of this file: data only. `framer` says what the entries do.
"""

from typing import Final

from protocol import tags

RUN: Final = -1
"""In a look table: forward messages with this tag without reporting them."""
WHOLE: Final = 1 << 31
"""In a look table: report messages with this tag when all of their bytes are there."""
SHORT: Final = 1 << 29
"""In a look table: as WHOLE if the message is of at most SHORT_MOST bytes, else by its header."""
TWO_NAMES: Final = 1 << 28
"""In a look table: report when the two names a message begins with are there, or LONG_NAMES bytes."""
NAMED: Final = 1 << 30
"""In a look table: as WHOLE if it begins with a name and is not above NAMED_MOST; else as BORROW_HEAD."""

# PostgreSQL's PQ_SMALL_MESSAGE_LIMIT and PQ_LARGE_MESSAGE_LIMIT (src/include/libpq/libpq.h).
SMALL: Final = 10_000
LARGE: Final = 0x3FFFFFFE
# An asynchronous report has to be seen whole before it may be dropped or remembered.
REPORT: Final = 1 << 20
EMPTY: Final = 4

# Enough of an ErrorResponse for its severity and SQLSTATE, of a CommandComplete for the verb of its tag.
ERROR_HEAD: Final = 96
# Enough of an ErrorResponse for the names in its message as well.
NAMES_HEAD: Final = 2_048
# Names of prepared statements are for the pooler to shorten: a Describe or Close is of at most so many bytes,
# and so much of a Bind holds its names. (PostgreSQL's own limit is SMALL.)
LONG_NAMES: Final = 65_536
# All of the longest RowDescription that can be (1,664 columns): the reply to a Describe of ours is kept back.
NAMES_WHOLE: Final = 256 * 1024
# All of a Query that deallocates one statement.
SHORT_MOST: Final = 256
# A named Parse is kept whole, to be repeated on other servers; PostgreSQL's clients write far shorter ones.
NAMED_MOST: Final = 16 << 20
COMMAND_HEAD: Final = 16
# A client is lent a server once its first message is whole or at least this much of it has come (bytes), so
# that a client that sends half a short query holds nobody up.
BORROW_HEAD: Final = 16_384

HEADER: Final = 5


def table(default: int, entries: dict[int, int]) -> tuple[int, ...]:
    return tuple(entries.get(tag, default) for tag in range(256))


FRONTEND_CAPS: Final = {
    tags.QUERY: LARGE,
    tags.PARSE: LARGE,
    tags.BIND: LARGE,
    tags.FUNCTION_CALL: LARGE,
    tags.COPY_DATA: LARGE,
    tags.DESCRIBE: LONG_NAMES,
    tags.EXECUTE: SMALL,
    tags.CLOSE: LONG_NAMES,
    tags.SYNC: SMALL,
    tags.FLUSH: SMALL,
    tags.COPY_DONE: SMALL,
    tags.COPY_FAIL: SMALL,
    tags.TERMINATE: SMALL,
}
BACKEND_CAPS: Final = {
    tags.DATA_ROW: LARGE,
    tags.COPY_DATA: LARGE,
    tags.ROW_DESCRIPTION: LARGE,
    tags.ERROR_RESPONSE: LARGE,
    tags.NOTICE_RESPONSE: LARGE,
    tags.FUNCTION_CALL_RESPONSE: LARGE,
    tags.PARAMETER_DESCRIPTION: LARGE,
    tags.COPY_IN_RESPONSE: REPORT,
    tags.COPY_OUT_RESPONSE: REPORT,
    tags.NOTIFICATION_RESPONSE: REPORT,
    tags.PARAMETER_STATUS: REPORT,
    tags.COMMAND_COMPLETE: SMALL,
    tags.READY_FOR_QUERY: 5,
    tags.COPY_DONE: EMPTY,
    tags.PARSE_COMPLETE: EMPTY,
    tags.BIND_COMPLETE: EMPTY,
    tags.CLOSE_COMPLETE: EMPTY,
    tags.NO_DATA: EMPTY,
    tags.EMPTY_QUERY_RESPONSE: EMPTY,
    tags.PORTAL_SUSPENDED: EMPTY,
}


def frontend_caps(max_packet_size: int = LARGE, *, simple_query: bool = True) -> tuple[int, ...]:
    """Largest length field accepted from a logged-in client, by tag; 0 for a tag it may not send.

    `max_packet_size` (bytes, PgBouncer's setting) lowers the caps of the messages PostgreSQL itself lets be
    large; `simple_query` is the opposite of its disable_pqexec.
    """
    caps = {tag: min(cap, max(max_packet_size, SMALL)) for tag, cap in FRONTEND_CAPS.items()}
    if not simple_query:
        del caps[tags.QUERY]
    return table(0, caps)


BACKEND: Final = table(0, BACKEND_CAPS)

FRONTEND_LOOK: Final = table(0, {tags.TERMINATE: WHOLE, tags.FLUSH: WHOLE, tags.SYNC: WHOLE})
"""What is looked at while the client has a server: tags, and the short messages whole."""
FRONTEND_LOOK_IDLE: Final = table(
    WHOLE,
    {
        tags.QUERY: BORROW_HEAD,
        tags.PARSE: BORROW_HEAD,
        tags.BIND: BORROW_HEAD,
        tags.FUNCTION_CALL: BORROW_HEAD,
        tags.COPY_DATA: 0,
    },
)
"""What is looked at while the client has no server: nothing is reported that would hold a server for half
a message.
"""
FRONTEND_LOOK_COPY: Final = table(
    0, {tags.TERMINATE: WHOLE, tags.FLUSH: WHOLE, tags.SYNC: WHOLE, tags.COPY_DATA: RUN}
)
"""As FRONTEND_LOOK, while the server takes COPY data."""
_NAMING: Final = {
    tags.QUERY: SHORT,
    tags.PARSE: NAMED,
    tags.BIND: TWO_NAMES,
    tags.DESCRIBE: WHOLE,
    tags.CLOSE: WHOLE,
    tags.EXECUTE: WHOLE,
}
FRONTEND_LOOK_NAMES: Final = tuple(_NAMING.get(tag, look) for tag, look in enumerate(FRONTEND_LOOK))
"""As FRONTEND_LOOK, where names of prepared statements are replaced."""
FRONTEND_LOOK_NAMES_COPY: Final = tuple(_NAMING.get(tag, look) for tag, look in enumerate(FRONTEND_LOOK_COPY))
"""As FRONTEND_LOOK_COPY, where names of prepared statements are replaced."""
FRONTEND_LOOK_NAMES_IDLE: Final = tuple(
    look if tag in (tags.BIND, tags.QUERY) else _NAMING.get(tag, look)
    for tag, look in enumerate(FRONTEND_LOOK_IDLE)
)
"""As FRONTEND_LOOK_IDLE, where names of prepared statements are replaced."""

_BACKEND_LOOKS: Final = {
    tags.DATA_ROW: RUN,
    tags.COPY_DATA: RUN,
    tags.COPY_DONE: RUN,
    tags.ERROR_RESPONSE: ERROR_HEAD,
    tags.COMMAND_COMPLETE: COMMAND_HEAD,
    tags.PARAMETER_STATUS: WHOLE,
    tags.NOTIFICATION_RESPONSE: WHOLE,
    tags.READY_FOR_QUERY: WHOLE,
}
BACKEND_LOOK: Final = table(0, _BACKEND_LOOKS)
_NAMED: Final = (tags.ROW_DESCRIPTION, tags.PARAMETER_DESCRIPTION, tags.NOTICE_RESPONSE)
BACKEND_LOOK_NAMES: Final = table(
    0, _BACKEND_LOOKS | dict.fromkeys(_NAMED, NAMES_WHOLE) | {tags.ERROR_RESPONSE: NAMES_HEAD}
)
"""As BACKEND_LOOK, where names of prepared statements in errors are replaced."""
BACKEND_LOOK_QUERY: Final = tuple(
    RUN if tag == tags.ROW_DESCRIPTION else look for tag, look in enumerate(BACKEND_LOOK_NAMES)
)
"""As BACKEND_LOOK_NAMES, while nothing but a simple Query is answered: what its rows look like answers no
Describe.
"""

# A password, or a SASL message, is the only thing a client says while it logs in: PostgreSQL allows 64 KiB
# (PG_MAX_AUTH_TOKEN_LENGTH).
LOGIN_CAPS: Final = table(0, {tags.PASSWORD: 65_535})
SERVER_LOGIN_CAPS: Final = table(
    0,
    {
        tags.AUTHENTICATION: 65_535,
        tags.BACKEND_KEY_DATA: 4 + 4 + 256,
        tags.ERROR_RESPONSE: REPORT,
        tags.NOTICE_RESPONSE: REPORT,
        tags.NEGOTIATE_PROTOCOL_VERSION: 65_535,
        tags.PARAMETER_STATUS: REPORT,
        tags.READY_FOR_QUERY: 5,
    },
)
