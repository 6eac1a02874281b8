"""What the log may have of a command: who gave it is in front; what may be a password is left out.

Of a command that was understood that is the value of a setting which is none of ours, or which can hold a
password. What was not understood may be anything, SQL for another database among it: all that stands in
quotes is left out, and of a SET all behind the key.
"""

import re
from typing import Final

from config.keys import Keys
from proxy.admin.parser import SetCommand, invalid_command
from proxy.log import printable

HIDDEN: Final = "***"
SECRETIVE: Final = frozenset(("auth_ldap_options", "auth_query", "mock_authentication_nonce"))
"""Settings in which somebody may have written a password."""

# More of a text the log would not show.
_MOST: Final = 4096
_QUOTED: Final = re.compile(r"'(?:[^']|'')*+'?|\$(\w*)\$.*?(?:\$\1\$|\Z)", re.DOTALL)
_SET: Final = re.compile(r"(?i)\s*(?:set|alter)\b\s*(\w*)")
_KNOWN: Final = frozenset((*Keys.model_fields, *Keys.aliases))


def understood(command: SetCommand) -> str:
    """A SET as the log may have it."""
    key = command.key.lower()
    if key in _KNOWN and key not in SECRETIVE:
        return command.text
    return f"SET {command.key} = {HIDDEN}"


def refused(text: str, reason: str) -> str:
    """A command that is not carried out, and why, as the log may have them."""
    shown = hidden(text[:_MOST].strip())
    if reason.startswith("invalid command"):
        return printable(invalid_command(shown).message)
    return f"{printable(reason)}: {printable(shown)}"


def hidden(text: str) -> str:
    """The text without what may be a password."""
    found = _SET.match(text)
    if found is not None:
        return f"{found[0].strip()} {HIDDEN}"
    return _QUOTED.sub(HIDDEN, text)
