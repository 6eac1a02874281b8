"""What can be wrong with bytes from the other side.

A decoder raises these and nothing else, whatever it is given. They never say who is to blame: whoever read
the bytes knows, and turns the error into a refusal (to a client) or into a closed connection (to a server).
"""

from . import sqlstate as codes


class ProtocolError(Exception):
    """The other side broke the protocol; the connection cannot go on.

    `message` is fit to be shown to the other side; `sqlstate` is the code to show with it.
    """

    default_sqlstate = codes.PROTOCOL_VIOLATION

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.message: str = message
        self.sqlstate: str = sqlstate or self.default_sqlstate


class MalformedMessage(ProtocolError):
    """A message whose inside contradicts its layout: a length, a count or a terminator is wrong."""


class MessageTooLarge(ProtocolError):
    """A message longer than we or the protocol allow."""

    default_sqlstate = codes.PROGRAM_LIMIT_EXCEEDED


class UnexpectedMessage(ProtocolError):
    """A well-formed message that has no place in the present phase.

    `tag` is its own where it came as a reply that was not owed, or not yet; else 0.
    """

    def __init__(self, message: str, sqlstate: str | None = None, *, tag: int = 0) -> None:
        super().__init__(message, sqlstate)
        self.tag: int = tag
