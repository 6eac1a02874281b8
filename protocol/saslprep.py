"""SASLprep (RFC 4013), the normal form of a password before SCRAM hashes it.

A password that has no normal form is used byte for byte, as PostgreSQL does: refusing it would lock out
everyone whose password was set in another encoding. ASCII passwords are never changed.
"""

import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final

_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_a1,  # unassigned in Unicode 3.2
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(password: bytes) -> bytes:
    """Return the normal form of `password` as UTF-8, or `password` itself where it has none."""
    if password.isascii():
        return password
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return password
    mapped = (
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    normal = unicodedata.normalize("NFKC", "".join(mapped))
    if not normal or _is_prohibited(normal) or _mixes_directions(normal):
        return password
    return normal.encode()


def _is_prohibited(text: str) -> bool:
    return any(table(char) for char in text for table in _PROHIBITED)


def _mixes_directions(text: str) -> bool:
    """Whether `text` breaks RFC 3454, section 6: text with right-to-left letters is so from end to end."""
    if not any(stringprep.in_table_d1(char) for char in text):
        return False
    if any(stringprep.in_table_d2(char) for char in text):
        return True
    return not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
