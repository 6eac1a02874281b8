"""Recognise SQL that does away with prepared statements, whose names may be known to the pooler alone.

Law: a pure function over the text of a Query or Parse; what is not exactly one such statement is not ours.
"""

import re
from typing import Final

# Whitespace and comments, as PostgreSQL's scanner skips them; a comment within a comment is not looked for.
# Nothing is tried twice (atomic groups, possessive repeats): the text is a stranger's.
_SPACE: Final = rb"(?>\s++|/\*(?>[^*]++|\*(?!/))*+\*/|--[^\r\n\0]*+)"
_STATEMENT: Final = re.compile(
    b"%b*+deallocate(?:%b++prepare(?![a-z0-9_$\x80-\xff]))?%b*+"
    rb'("(?>[^"\0]++|"")++"|(?<![a-z0-9_$\x80-\xff])[a-z_\x80-\xff][a-z0-9_$\x80-\xff]*+)'
    b"%b*+;?%b*+\0" % (_SPACE, _SPACE, _SPACE, _SPACE, _SPACE),
    re.IGNORECASE,
)
_SWEEPING: Final = re.compile(
    b"%b*+(?>deallocate(?:%b++prepare)?|discard)%b++all%b*+;?%b*+\0"
    % (_SPACE, _SPACE, _SPACE, _SPACE, _SPACE),
    re.IGNORECASE,
)
# The first bytes that such texts can have.
_FIRST: Final = frozenset(b"dD /-\t\r\n\f\v")


def may_be(first: int) -> bool:
    """Whether a text with this first byte may be one of these; most can be told by it."""
    return first in _FIRST


def deallocated(text: bytes) -> bytes | None:
    """The name that a text (with its terminating zero byte) deallocates; None if it does anything else.

    DEALLOCATE ALL has no name.
    """
    found = _STATEMENT.match(text)
    if found is None or found.end() != text.index(b"\0") + 1:
        return None
    name = found[1]
    if name.startswith(b'"'):
        return name[1:-1].replace(b'""', b'"')
    name = name.lower()
    return None if name == b"all" else name


def sweeps(text: bytes) -> bool:
    """Whether a text (with its terminating zero byte) does away with all statements."""
    return _SWEEPING.match(text) is not None
