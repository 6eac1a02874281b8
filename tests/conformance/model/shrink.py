"""Finds the few steps that matter for a difference.

Law: steps are left out, never changed; what is left ends with the step that differs, and still differs there.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from tests.conformance.model.author import Step, Talk

Differs = Callable[[Sequence[Step]], bool]
"""Whether the last of these steps, played from the beginning, is answered otherwise than predicted."""


def shrunk(steps: Sequence[Step], differs: Differs, seconds: float) -> list[Step]:
    """As few of the steps as can be found in this time; all where the difference does not come again."""
    deadline = time.monotonic() + seconds
    before, last = list(steps[:-1]), steps[-1]
    if not differs(steps):
        return [*steps]
    client = getattr(last, "client", None)
    own = [step for step in before if not isinstance(step, Talk) or step.client == client]
    if differs([*own, last]):
        before = own
    size = max(1, len(before) // 2)
    while before and size and time.monotonic() < deadline:
        tried = (fewer for fewer in _without(before, size) if time.monotonic() < deadline)
        found = next((fewer for fewer in tried if differs([*fewer, last])), None)
        if found is None:
            size //= 2
        else:
            before = found
    return [*before, last]


def _without(steps: list[Step], size: int) -> Iterator[list[Step]]:
    for at in range(0, len(steps), size):
        yield steps[:at] + steps[at + size :]
