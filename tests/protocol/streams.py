"""Streams of messages for tests, and ways to cut them."""

from itertools import pairwise

from hypothesis import strategies as st

from protocol import wire

Message = tuple[int, bytes]


def encoded(messages: list[Message]) -> bytes:
    return b"".join(wire.message(tag, body) for tag, body in messages)


def messages_for(caps: tuple[int, ...]) -> st.SearchStrategy[list[Message]]:
    """Valid streams, among them long rows of messages of one kind and length, as results are."""
    allowed = [tag for tag in range(256) if caps[tag]]

    def body_of(tag: int) -> st.SearchStrategy[bytes]:
        return st.binary(max_size=min(caps[tag] - 4, 200))

    one = st.sampled_from(allowed).flatmap(lambda tag: st.tuples(st.just(tag), body_of(tag)))
    alike = st.builds(lambda message, times: [message] * times, one, st.integers(1, 300))
    return st.lists(st.one_of(one.map(lambda message: [message]), alike), max_size=8).map(
        lambda groups: [message for group in groups for message in group]
    )


CUTS = st.lists(st.integers(0, 1 << 16), max_size=40)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in pieces; some of them are empty, as a receive buffer never is but might be."""
    at = sorted({0, len(stream), *(where % (len(stream) + 1) for where in cuts)})
    return [stream[start:stop] for start, stop in pairwise(at)]
