"""What supervisor and workers ask each other for the console: snapshots, orders, settings. Plain frozen data.

Each is a question over a link (`link.Calls`), and its answer is named beside it.
"""

from dataclasses import dataclass

from config.problems import Problem
from config.settings import Settings
from proxy.bundle import Bundle
from proxy.control import DatabaseOrder, Order
from proxy.halts import Halted

# From a worker to the supervisor.


@dataclass(frozen=True, slots=True)
class Gather:
    """Ask every worker for these parts of its snapshot. Answer: Gathered."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What they said, and who did not answer in time."""

    bundles: tuple[Bundle, ...]
    silent: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Execute:
    """Carry out an order, everywhere. Answer: None, or Refusal."""

    order: Order


@dataclass(frozen=True, slots=True)
class Undo:
    """Whoever gave this order does not want to wait any more for its effect. Answer: None."""

    order: Order


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order was not carried out."""

    message: str
    sqlstate: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """A cancel request with a key that is another worker's; passed on to that. Answer, when it has been dealt
    with: whether there was such a client."""

    pid: int
    secret: bytes


# From the supervisor to a worker.


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Answer: the pieces of these parts, as a bundle has them."""

    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """The state of the pooler as it is, to a worker that was just started. Answer: None."""

    halted: Halted
    settings: Settings


@dataclass(frozen=True, slots=True)
class Do:
    """Carry out this part of an order. Answer: the databases it was carried out on, or the number of
    clients."""

    order: Order


@dataclass(frozen=True, slots=True)
class Until:
    """Wait for the effect of a PAUSE or a WAIT_CLOSE. Answer: None, when it is there."""

    order: DatabaseOrder


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find out whether these settings could be applied. Answer: Agreed."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Agreed:
    """What is wrong with them; nothing, if they can be applied."""

    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Commit:
    """Apply what was prepared; `reopen` the log, which may have been rotated. Answer: None."""

    reopen: bool = False
