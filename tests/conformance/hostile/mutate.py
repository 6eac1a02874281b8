"""Turns a good reply into one that no server should send: bytes, messages, lengths, order.

Law: the same seed and the same reply give the same mutation, whatever else runs.
"""

import random
import struct
from collections.abc import Callable

from tests.support import messages as m

Messages = list[bytes]
Dice = random.Random

_NONSENSE_LENGTHS = (0, 1, 3, 10_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

BANK: tuple[bytes, ...] = (
    *(m.message(tag) for tag in (b"1", b"2", b"3", b"n", b"s", b"I", b"c", b"t", b"?", b"\0", b"\xff")),
    *(m.ready_for_query(status) for status in (b"I", b"T", b"E", b"?")),
    m.row_description(["stray"]),
    m.data_row(["stray"]),
    m.data_row([None]),
    m.command_complete("SELECT 1"),
    m.command_complete("LISTEN"),
    m.command_complete("DISCARD ALL"),
    m.error_response("XX000", "stray"),
    m.error_response("57P01", "stray", severity="FATAL"),
    m.message(b"E", b"\0"),
    m.message(b"E", b"SERROR\0Mno code\0\0"),
    m.message(b"E", b"SERROR"),
    m.error_response("00000", "stray", severity="NOTICE", tag=b"N"),
    m.message(b"N", b""),
    m.parameter_status("application_name", "stray"),
    m.parameter_status("client_encoding", "stray"),
    m.message(b"S", b"stray"),
    m.message(b"A", m.int32(1) + m.string("stray") + m.string("stray")),
    m.message(b"A", b"stray"),
    m.message(b"G", b"\0\0\0"),
    m.message(b"H", b"\0\0\0"),
    m.message(b"W", b"\0\0\0"),
    m.copy_data(b"stray\n"),
    m.backend_key_data(1, b"abcd"),
    m.authentication(0),
    m.authentication(3),
    m.message(b"V", m.int32(-1)),
    m.message(b"v", m.int32(0) + m.int32(0)),
)
"""Messages of every kind, good ones and bad ones, to put where they do not belong."""


def _position(dice: Dice, messages: Messages) -> int:
    return dice.randrange(len(messages)) if messages else 0


def _flip(dice: Dice, messages: Messages) -> Messages:
    at = _position(dice, messages)
    damaged = bytearray(messages[at])
    damaged[dice.randrange(len(damaged))] ^= dice.randrange(1, 256)
    return [*messages[:at], bytes(damaged), *messages[at + 1 :]]


def _length(dice: Dice, messages: Messages) -> Messages:
    at = _position(dice, messages)
    message = messages[at]
    near = len(message) - 1 + dice.choice((-4, -1, 1, 3, 100))
    length = dice.choice((near, near, *_NONSENSE_LENGTHS)) % 2**32
    return [*messages[:at], message[:1] + struct.pack("!I", length) + message[5:], *messages[at + 1 :]]


def _truncate(dice: Dice, messages: Messages) -> Messages:
    stream = b"".join(messages)
    return [stream[: dice.randrange(len(stream))]]


def _drop(dice: Dice, messages: Messages) -> Messages:
    at = _position(dice, messages)
    return [*messages[:at], *messages[at + 1 :]]


def _drop_last(dice: Dice, messages: Messages) -> Messages:
    return messages[:-1]


def _double(dice: Dice, messages: Messages) -> Messages:
    at = _position(dice, messages)
    return [*messages[: at + 1], *messages[at:]]


def _swap(dice: Dice, messages: Messages) -> Messages:
    one, other = _position(dice, messages), _position(dice, messages)
    swapped = list(messages)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return swapped


def _shuffle(dice: Dice, messages: Messages) -> Messages:
    return dice.sample(messages, len(messages))


def _insert(dice: Dice, messages: Messages) -> Messages:
    at = dice.randrange(len(messages) + 1)
    return [*messages[:at], dice.choice(BANK), *messages[at:]]


def _retag(dice: Dice, messages: Messages) -> Messages:
    at = _position(dice, messages)
    tag = bytes((dice.randrange(256),)) if dice.random() < 0.5 else dice.choice(BANK)[:1]
    return [*messages[:at], tag + messages[at][1:], *messages[at + 1 :]]


def _junk(dice: Dice, messages: Messages) -> Messages:
    at = dice.randrange(len(messages) + 1)
    return [*messages[:at], dice.randbytes(dice.randrange(1, 40)), *messages[at:]]


def _new_body(dice: Dice, messages: Messages) -> Messages:
    at = _position(dice, messages)
    size = dice.choice((0, len(messages[at]) - 5))
    return [*messages[:at], m.message(messages[at][:1], dice.randbytes(size)), *messages[at + 1 :]]


def _ready_early(dice: Dice, messages: Messages) -> Messages:
    at = dice.randrange(len(messages))
    return [*messages[:at], m.ready_for_query(dice.choice((b"I", b"I", b"T", b"E"))), *messages[at:]]


def _twice(dice: Dice, messages: Messages) -> Messages:
    return messages * 2


MUTATIONS: tuple[Callable[[Dice, Messages], Messages], ...] = (
    _flip,
    _flip,
    _length,
    _length,
    _truncate,
    _drop,
    _drop_last,
    _double,
    _swap,
    _shuffle,
    _insert,
    _insert,
    _retag,
    _junk,
    _new_body,
    _ready_early,
    _twice,
)


def mutate(good: tuple[bytes, ...], dice: Dice) -> tuple[str, bytes]:
    """One mutation, or sometimes several on top of each other: what was done, and the stream."""
    messages, names = list(good), []
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        if not any(messages):
            break
        messages = [each for each in messages if each]
        mutation = dice.choice(MUTATIONS)
        messages = mutation(dice, messages)
        names.append(mutation.__name__.strip("_"))
    return "+".join(names), b"".join(messages)
