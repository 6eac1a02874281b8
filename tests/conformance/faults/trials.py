"""One session through one broken lane, and the judgement of what it heard and did.

Law: whatever was cut, the client has heard the beginning of PostgreSQL's
replies to its own requests, and at most one error behind it. Where the fault
is behind the pooler it is told what happened. What it was told to be committed
is there, once; nothing is there twice.
"""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conformance.faults.golden import Stage, with_word, word
from tests.conformance.faults.lanes import HASTY, PATIENT, Lane, Network
from tests.conformance.faults.session import Heard, play
from tests.conformance.hostile.play import cut, told
from tests.conformance.hostile.verdict import Verdict, judge
from tests.support import messages as m
from tests.support.fault_proxy import End, FaultProxy, Way
from tests.support.wire import LoginRefused, Raw

_LEFT_ALONE = b"Munexpected EOF on client connection"
"""PostgreSQL's last words when it is hung up on in the middle of COPY; the pooler's come behind them."""
SLICES = (1, 2, 3, 7, 4095, 4096, 4097)
SIDES = ("client", "server", "both")
PATIENCE = 5.0
"""Seconds for a reply that must come."""
IMPATIENCE = 0.3
"""Seconds for a reply that the network in front of the pooler may have lost."""


@dataclass(frozen=True)
class Slices:
    """Bytes arrive in pieces of this size, each so many seconds behind the one before."""

    side: str
    size: int
    delay: float = 0.0


@dataclass(frozen=True)
class Cut:
    """At byte `at` of one direction, on one side of the pooler, a connection ends in this way."""

    side: str
    way: Way
    at: int
    end: End

    def __str__(self) -> str:
        return f"{self.end.value} {self.way.value} at byte {self.at} on the {self.side}'s side"


@dataclass(frozen=True)
class Late:
    """From byte `at` of one direction on, everything comes so many seconds late."""

    side: str
    way: Way
    at: int
    seconds: float = 0.2


Trial = Slices | Late | Cut


@dataclass
class Result:
    """What became of one trial. `committed`: its client was told so."""

    name: str
    outcome: str
    problems: list[str]
    committed: bool = False


def sides(lane: Lane, side: str) -> list[FaultProxy]:
    return {"client": [lane.before_pooler], "server": [lane.before_server], "both": [*lane.proxies]}[side]


class Trials:
    """Runs trials; each lane has one of these at a time."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def run(self, lane: Lane, trial: Trial) -> Result:
        number = next(self._network.numbers)
        lane.heal()
        match trial:
            case Slices():
                result = self._slices(lane, trial, number)
            case Late():
                result = self._late(lane, trial, number)
            case Cut():
                result = self._cut(lane, trial, number)
        lane.heal()
        result.problems += self._afterwards(lane)
        result.problems += self._journal(word(number), result)
        return result

    @staticmethod
    def _play(lane: Lane, user: str, stages: list[Stage], patience: float) -> Heard:
        with Raw(lane.before_pooler.host, lane.before_pooler.port) as raw:
            return play(raw, user, lane.database, stages, patience)

    def _slices(self, lane: Lane, trial: Slices, number: int) -> Result:
        for proxy in sides(lane, trial.side):
            proxy.slice(trial.size)
            proxy.delay(trial.delay)
        stages = self._network.short + ([] if trial.delay else self._network.long)
        return self._whole(lane, f"{lane.database}: {trial}", with_word(stages, word(number)))

    def _late(self, lane: Lane, trial: Late, number: int) -> Result:
        (proxy,) = sides(lane, trial.side)
        proxy.end_at(trial.way, trial.at, End.STOP)
        healing = threading.Timer(trial.seconds, proxy.heal)
        healing.start()
        result = self._whole(lane, f"{lane.database}: {trial}", with_word(self._network.short, word(number)))
        healing.join()
        return result

    def _whole(self, lane: Lane, name: str, stages: list[Stage]) -> Result:
        """A session that must be replied to as by PostgreSQL, to the last byte."""
        heard = self._play(lane, PATIENT, stages, 30)
        whole = b"".join(stage.reply for stage in stages)
        if bytes(heard.data) == whole:
            return Result(name, "whole", [], committed=True)
        return Result(name, "different", [f"heard {_differing(bytes(heard.data), whole)}"])

    def _cut(self, lane: Lane, trial: Cut, number: int) -> Result:
        (proxy,) = sides(lane, trial.side)
        proxy.end_at(trial.way, trial.at, trial.end)
        stages = with_word(self._network.short, word(number))
        in_front = trial.side == "client"
        patience = IMPATIENCE if in_front and trial.end is End.STOP else PATIENCE
        heard = self._play(lane, HASTY, stages, patience)
        verdict = _judge(heard, in_front)
        problems = [f"the client {verdict.problem}"] if verdict.problem else []
        outcome = f"{verdict.outcome} {verdict.code}".strip()
        return Result(f"{lane.database}: {trial}", outcome, problems, b"COMMIT\0" in heard.data)

    def _afterwards(self, lane: Lane) -> list[str]:
        """A client through the healed lane must be served, whatever the one before has suffered."""
        try:
            with Raw(lane.before_pooler.host, lane.before_pooler.port, PATIENCE) as raw:
                raw.login(PATIENT, lane.database)
                got = raw.query("select 'after'")
                assert m.rows(got) == [["after"]], f"got {got}"
        except (LoginRefused, OSError, EOFError, AssertionError) as error:
            return [f"the next client is not served: {error!r}"]
        return []

    def _journal(self, own: str, result: Result) -> list[str]:
        found = self._network.server.postgres.sql(
            "select count(*) from journal where word = %s", self._network.server.database, [own]
        )[0][0]
        if found > 1:
            return [f"{own} was written {found} times"]
        if result.committed and not found:
            return [f"{own} was committed and is not there"]
        return []


def _judge(heard: Heard, in_front: bool) -> Verdict:
    if heard.login != b"Z":
        return _judge_login(heard, in_front)
    # Behind a network that loses bytes nobody can be told that a connection has ended.
    closed = heard.closed or in_front
    data = b"".join(each for each in cut(bytes(heard.data)) if _LEFT_ALONE not in each)
    verdict = judge(data + _half(heard), heard.due, closed=closed, complete=heard.complete)
    if verdict.outcome == "served":
        return Verdict("whole")
    return Verdict("lost") if in_front and verdict.outcome == "closed" else verdict


def _half(heard: Heard) -> bytes:
    """The beginning of a message that never became whole."""
    data = bytes(heard.data)
    return data[len(b"".join(cut(data))) :]


def _judge_login(heard: Heard, in_front: bool) -> Verdict:
    if heard.refusal:
        fields = told(heard.refusal)
        clean = fields.get("S") == "FATAL" and fields.get("C")
        return Verdict("refused", fields.get("C", ""), "" if clean else f"was refused by {fields}")
    if in_front:
        return Verdict("lost")
    return Verdict("no login", problem="was neither let in nor told why")


def _differing(heard: bytes, whole: bytes) -> str:
    """Where two streams begin to differ, in words."""
    same = next((n for n, (one, two) in enumerate(zip(heard, whole, strict=False)) if one != two), None)
    at = min(len(heard), len(whole)) if same is None else same
    number = len(cut(whole[:at]))
    return f"{heard[at : at + 60]!r} instead of {whole[at : at + 60]!r} at byte {at}, message {number}"


# --- what to try ---------------------------------------------------------------------------------


def harmless() -> Iterator[Trial]:
    """Everything after which all bytes have arrived."""
    for size in SLICES:
        for side in SIDES:
            yield Slices(side, size)
    for side in SIDES:
        yield Slices(side, 500, 0.002)
    for side in ("client", "server"):
        for way in Way:
            for at in (0, 10, 600, 1500):
                yield Late(side, way, at)


def cuts(network: Network, step: int) -> Iterator[Cut]:
    """Cuts at every so-many-th byte of a session, its login included."""
    for end in End:
        for side in ("client", "server"):
            for way, length in _lengths(network).items():
                for at in range(0, length, step):
                    yield Cut(side, way, at, end)


def some_cuts(network: Network, count: int, seed: int) -> list[Cut]:
    return random.Random(seed).sample(list(cuts(network, 1)), count)


_LOGIN = {Way.TO_SERVER: 80, Way.TO_CLIENT: 500}
"""Bytes of a login, about."""


def _lengths(network: Network) -> dict[Way, int]:
    requests = sum(len(stage.request) for stage in network.short)
    replies = sum(len(stage.reply) for stage in network.short)
    return {Way.TO_SERVER: requests + _LOGIN[Way.TO_SERVER], Way.TO_CLIENT: replies + _LOGIN[Way.TO_CLIENT]}
