import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from proxy.turnstile import _TIDY, BUDGET, LATER, Gate, Turnstile
from tests.support import messages as m
from tests.support.rig import Rig, eventually

STEP = BUDGET // 4
"""What a step costs in these tests (ns)."""
FIT = -(-BUDGET // (STEP + LATER))
"""So many go into one turn."""


class Transport:
    """What a gate asks of one."""

    def __init__(self) -> None:
        self.protocol: asyncio.BaseProtocol | None = None
        self.reading = True
        self.closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True


class Target(asyncio.Protocol):
    """Notes what it is told; each delivery takes STEP of the clock's time."""

    def __init__(self, tick: Callable[[], None] = lambda: None) -> None:
        self.tick = tick
        self.heard: list[bytes] = []
        self.lost = False

    def data_received(self, data: bytes) -> None:
        self.tick()
        self.heard.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Crowd:
    """Gates at one turnstile whose clock goes only as far as their steps take it."""

    def __init__(self, count: int) -> None:
        self.now = 0
        self.turnstile = Turnstile(lambda: self.now)
        self.targets = [Target(self._tick) for _ in range(count)]
        self.transports = [Transport() for _ in range(count)]
        self.gates = [Gate(self.turnstile, target) for target in self.targets]
        for gate, transport in zip(self.gates, self.transports, strict=True):
            gate.connection_made(cast(asyncio.Transport, transport))

    def _tick(self) -> None:
        self.now += STEP

    def served(self) -> list[int]:
        return [at for at, target in enumerate(self.targets) if target.heard]


async def test_a_client_alone_does_not_wait() -> None:
    crowd = Crowd(1)
    crowd.gates[0].data_received(b"one")
    crowd.gates[0].data_received(b"two")
    assert crowd.targets[0].heard == [b"one", b"two"]
    assert len(crowd.turnstile) == 0


async def test_what_is_over_the_budget_of_a_turn_waits_for_the_next_ones() -> None:
    crowd = Crowd(5 * FIT)
    for gate in crowd.gates:
        gate.data_received(b"x")
    seen = [len(crowd.served())]
    while len(crowd.turnstile):
        await asyncio.sleep(0)
        seen.append(len(crowd.served()))
    assert seen == [FIT * turn for turn in range(1, 6)]


async def test_who_came_first_is_served_first() -> None:
    crowd = Crowd(3 * FIT)
    for gate in reversed(crowd.gates):
        gate.data_received(b"x")
    await asyncio.sleep(0)
    assert crowd.served() == list(range(FIT, 3 * FIT))
    crowd.gates[-1].data_received(b"again")
    await asyncio.sleep(0)
    assert (crowd.served(), crowd.targets[-1].heard) == (list(range(3 * FIT)), [b"x"])
    await asyncio.sleep(0)
    assert crowd.targets[-1].heard == [b"x", b"again"]


async def test_a_step_that_fails_keeps_nobody_else_out() -> None:
    crowd = Crowd(3 * FIT)
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    error = RuntimeError("a fault of ours")

    def fail() -> None:
        raise error

    crowd.targets[FIT].tick = fail
    for gate in crowd.gates:
        gate.data_received(b"x")
    await eventually(lambda: not len(crowd.turnstile))
    assert failures == [error]
    assert crowd.served() == [at for at in range(3 * FIT) if at != FIT]


async def test_time_that_passes_makes_room_again() -> None:
    crowd = Crowd(FIT + 1)
    for gate in crowd.gates[:FIT]:
        gate.data_received(b"x")
    crowd.now += 3 * BUDGET
    crowd.gates[FIT].data_received(b"x")
    assert len(crowd.served()) == FIT + 1


async def test_a_client_that_waits_and_goes_on_sending_is_read_no_further() -> None:
    crowd = Crowd(FIT + 1)
    for gate in crowd.gates:
        gate.data_received(b"x" * 3000)
    last = crowd.gates[FIT]
    assert crowd.transports[FIT].reading
    last.data_received(b"y" * 3000)
    assert not crowd.transports[FIT].reading
    await asyncio.sleep(0)
    assert crowd.transports[FIT].reading
    assert crowd.targets[FIT].heard == [b"x" * 3000 + b"y" * 3000]


async def test_what_a_client_said_before_it_closed_is_still_heard() -> None:
    crowd = Crowd(FIT + 1)
    for gate in crowd.gates:
        gate.data_received(b"cancel")
    assert not crowd.gates[0].eof_received()
    assert crowd.gates[FIT].eof_received()
    await asyncio.sleep(0)
    assert crowd.targets[FIT].heard == [b"cancel"]
    await asyncio.sleep(0)
    assert crowd.transports[FIT].closed


async def test_who_is_gone_is_not_served() -> None:
    crowd = Crowd(FIT + 2)
    for gate in crowd.gates:
        gate.data_received(b"x")
    crowd.gates[FIT].connection_lost(None)
    await asyncio.sleep(0)
    assert FIT not in crowd.served()
    assert FIT + 1 in crowd.served()
    assert crowd.targets[FIT].lost


async def test_an_open_gate_is_out_of_the_way_and_holds_nothing_back() -> None:
    crowd = Crowd(FIT + 1)
    for gate in crowd.gates:
        gate.data_received(b"x")
    crowd.gates[FIT].open()
    assert crowd.transports[FIT].protocol is crowd.targets[FIT]
    assert crowd.targets[FIT].heard == [b"x"]
    await asyncio.sleep(0)
    assert crowd.targets[FIT].heard == [b"x"]


async def test_a_layer_in_between_is_stood_before() -> None:
    crowd = Crowd(1)
    layer = Target()
    crowd.gates[0].stand_before(layer, b"")
    assert crowd.transports[0].protocol is crowd.gates[0]
    crowd.gates[0].data_received(b"x")
    assert (layer.heard, crowd.targets[0].heard) == ([b"x"], [])


async def test_a_layer_hears_first_what_was_received_before_it_was_there() -> None:
    crowd = Crowd(FIT + 1)
    for gate in crowd.gates:
        gate.data_received(b"behind")
    layer = Target()
    crowd.gates[FIT].stand_before(layer, b"before ")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert b"".join(layer.heard) == b"before behind"


async def test_after_many_steps_somebody_tidies_up() -> None:
    crowd = Crowd(1)
    tidied = []
    crowd.turnstile.tidy = lambda: tidied.append(len(crowd.targets[0].heard))
    for _ in range(2 * _TIDY + 1):
        crowd.now += 3 * BUDGET
        crowd.gates[0].data_received(b"x")
    assert tidied == [_TIDY, 2 * _TIDY]


@pytest.mark.both_loops
async def test_clients_that_are_in_have_no_gate() -> None:
    async with Rig() as rig:
        waiting = await rig.connect()
        peer = await rig.client()
        (client,) = [one for one in rig.worker.lobby.clients.values() if not one.in_login]
        assert client.connection.gate is None
        assert (await peer.ask("select 1"))[-1].tag == b"Z"
        waiting.send(m.startup({"user": "alice", "database": "app"}))
        await waiting.welcome()
        await eventually(
            lambda: all(one.connection.gate is None for one in rig.worker.lobby.clients.values())
        )
