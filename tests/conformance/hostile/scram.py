"""The server's side of SCRAM-SHA-256, each of whose messages may be replaced by another.

Law: independent of the `protocol` package. It believes every client and proves
itself properly, unless a message is altered.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable

from tests.support import messages as m
from tests.support.scram import attributes
from tests.support.script import Conversation, Unexpected

PASSWORD = "hostile-secret"
SALT = b"0123456789abcdef"
ITERATIONS = 4096

Alter = Callable[[int, tuple[bytes, ...]], bytes]
"""Given the number of a reply (0 to 3) and its messages: what is sent instead."""


def honest(number: int, reply: tuple[bytes, ...]) -> bytes:
    return b"".join(reply)


def offer(mechanism: str = "SCRAM-SHA-256") -> bytes:
    return m.authentication(10, m.string(mechanism) + b"\0")


def challenge(nonce: str, *, salt: bytes = SALT, iterations: int = ITERATIONS) -> bytes:
    """server-first-message."""
    encoded = base64.b64encode(salt).decode()
    return m.authentication(11, f"r={nonce},s={encoded},i={iterations}".encode())


def signature(password: str, spoken: bytes) -> bytes:
    """server-final-message over the three messages before it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, ITERATIONS)
    key = hmac.digest(salted, b"Server Key", "sha256")
    return m.authentication(12, b"v=" + base64.b64encode(hmac.digest(key, spoken, "sha256")))


def log_in(conversation: Conversation, alter: Alter, welcome: tuple[bytes, ...]) -> None:
    """The whole exchange; `welcome` follows the proof. Raises EOFError where the pooler hangs up."""
    try:
        conversation.send(alter(0, (offer(),)))
        first = conversation.expect(b"p").body.split(b"\0", 1)[1][4:]
        bare = first.split(b",", 2)[2]
        nonce = attributes(bare)["r"] + "servernonce"
        question = challenge(nonce)
        conversation.send(alter(1, (question,)))
        final = conversation.expect(b"p").body
        unproven = final.rsplit(b",p=", 1)[0]
        spoken = b",".join((bare, question[9:], unproven))
        conversation.send(alter(2, (signature(PASSWORD, spoken), m.authentication(0))), alter(3, welcome))
    except (Unexpected, IndexError, KeyError):
        # An altered message has led the pooler to another answer, which nobody here needs to understand.
        return
