import pickle

import pytest

from proxy.pool.interfaces import PoolKey
from proxy.pool.leasing import (
    Arrival,
    Below,
    Claim,
    Forget,
    Grant,
    How,
    Report,
    Returned,
    Take,
    Yielded,
)

KEY = PoolKey("app", "alice", asks=True)


@pytest.mark.parametrize(
    "message",
    [
        Report(KEY, 2, since=5, reserve=True, load=3, spare=1),
        Returned(KEY),
        Yielded(7, KEY, How.MOVED, b"cargo"),
        Grant(KEY),
        Claim(KEY, made=True),
        Take(7, KEY, move=True, due=False),
        Forget(7),
        Arrival(KEY, b"cargo"),
        Below(KEY, 2),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_the_same_in_another_process(message: object) -> None:
    assert pickle.loads(pickle.dumps(message, 5)) == message


def test_a_message_travels_as_its_values_in_their_order() -> None:
    assert Report(KEY, 2, since=5).__reduce__() == (Report, (KEY, 2, 5, False, 0, 0))


def test_a_pool_that_only_lacks_its_minimum_has_nobody_waiting() -> None:
    assert Report(KEY, 1).since is None
