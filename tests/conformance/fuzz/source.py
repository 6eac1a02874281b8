"""Turns the fuzzer's bytes into things worth reading: streams of messages that are nearly right.

Law: every byte of the input has a meaning of its own, so that a small change of the input is a small change
of the stream.
"""

from collections.abc import Iterator, Sequence

_HUGE = (0, 1, 3, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10_001)
"""Lengths that have no business in the header of a short message."""
_MOST_MESSAGES = 64
_MOST_ALIKE = 40
_MOST_BYTES = 4096


class Source:
    """The input, taken from the front; beyond its end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """A number from one byte."""
        return (self.take(1) or b"\0")[0] % below

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        self._at += len(piece)
        return piece

    def part(self) -> bytes:
        """A piece that says itself how long it is."""
        return self.take(self.number(256))

    def rest(self) -> bytes:
        return self.take(len(self._data))


def body(source: Source) -> bytes:
    """The inside of a message: as it comes, or made of whole fields, so that counts have a chance."""
    if not source.number(4):
        return source.rest()
    written = bytearray()
    while source:
        match source.number(7):
            case 0:
                written += source.take(1)
            case 1:
                written += source.number(8).to_bytes(2, "big")
            case 2:
                written += source.number(8).to_bytes(4, "big")
            case 3:
                written += source.take(source.number(16)).replace(b"\0", b"") + b"\0"
            case 4:
                value = source.take(source.number(16))
                written += len(value).to_bytes(4, "big") + value
            case 5:
                written += (-1 - source.number(3)).to_bytes(4, "big", signed=True)
            case 6:
                written += source.take(source.number(24))
    return bytes(written)


def stream(source: Source, tags: Sequence[int]) -> bytes:
    """Messages one after the other: mostly known tags, mostly right lengths, some many times in a row."""
    written = bytearray()
    for _ in range(_MOST_MESSAGES):
        if not source or len(written) > _MOST_BYTES:
            break
        how = source.number(16)
        tag = source.number(256) if how == 15 else tags[source.number(len(tags))]
        content = source.part()
        length = len(content) + 4
        if how == 14:
            length = _HUGE[source.number(len(_HUGE))]
        elif how == 13:
            length += source.number(3) - 1
        times = source.number(_MOST_ALIKE) if how == 12 else 1
        written += (bytes((tag,)) + length.to_bytes(4, "big", signed=False) + content) * times
    return bytes(written)


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """The data in pieces of these sizes, over and over."""
    at = 0
    while at < len(data):
        for size in sizes:
            yield data[at : at + size]
            at += size
