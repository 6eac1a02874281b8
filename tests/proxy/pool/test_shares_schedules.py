"""Several workers in any order of events: limits hold, nobody waits for ever, no slot is lost.

Workers die with messages on their way, limits change by reload, and messages of different workers overtake
each other as they may on different sockets.
"""

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from proxy.pool import states
from proxy.pool.interfaces import PoolKey
from tests.support.clock import SECOND
from tests.support.crew import Crew, Hand
from tests.support.doubles import FakeSession, make_settings

SCHEDULES = int(os.environ.get("HOWDAH_TEST_SCHEDULES", "240"))
BLOCKS = 8
ROUTES = [("a", "alice"), ("a", "bob"), ("b", "alice"), ("forced", "carol")]


def random_limits(dice: random.Random) -> dict[str, object]:
    return {
        "databases": {"a": {"host": "one"}, "b": {"host": "two"}, "forced": {"host": "one", "user": "alice"}},
        "pool_mode": dice.choice(["transaction", "transaction", "session"]),
        "default_pool_size": dice.choice([0, 1, 2, 3, 5]),
        "reserve_pool_size": dice.choice([0, 0, 1]),
        "reserve_pool_timeout": dice.choice([0, 1]),
        "min_pool_size": dice.choice([0, 0, 1, 2]),
        "max_db_connections": dice.choice([0, 0, 1, 2, 4]),
        "max_user_connections": dice.choice([0, 0, 1, 3]),
        "server_check_delay": dice.choice([0, 30]),
        "server_idle_timeout": dice.choice([0, 2]),
        "query_wait_timeout": 0,
    }


class Schedule:
    """One random run."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.limits = random_limits(self.dice)
        self.crew = Crew(self.dice.randint(2, 4), make_settings(**self.limits))
        self.graves: list[Counter[PoolKey]] = []
        self.allowed: dict[str, int] = {}
        self.log: list[str] = []

    def hand(self) -> Hand:
        return self.dice.choice(list(self.crew.hands.values()))

    def somebody(self, which: Callable[[FakeSession], bool]) -> tuple[Hand, FakeSession] | None:
        found = [(hand, one) for hand in self.crew.hands.values() for one in hand.sessions if which(one)]
        return self.dice.choice(found) if found else None

    # What may happen.

    def a_client_comes(self) -> None:
        self.hand().session(*self.dice.choice(ROUTES)).asks()

    def a_client_asks_again(self) -> None:
        if (found := self.somebody(lambda one: not one.waits and one.server is None)) is not None:
            found[1].asks()

    def a_client_gives_back(self) -> None:
        if (found := self.somebody(lambda one: one.server is not None)) is not None:
            found[1].gives_back()

    def a_client_leaves(self) -> None:
        if (found := self.somebody(lambda one: True)) is not None:
            found[0].leave(found[1])

    def a_message_goes_up(self) -> None:
        if (hand := self.hand()).outbox:
            self.crew.up(hand)

    def a_message_comes_down(self) -> None:
        if (hand := self.hand()).inbox:
            self.crew.down(hand)

    def time_passes(self) -> None:
        self.crew.clock.advance(self.dice.choice([0.001, 0.011, 0.03, 0.2, 1]))
        self.crew.shares.sweep(self.crew.clock())
        self.hand().run_timers()

    def a_janitor_sweeps(self) -> None:
        self.hand().janitor.sweep(self.crew.clock())

    def postgresql_acts(self) -> None:
        self.hand().settle()

    def postgresql_closes(self) -> None:
        servers = self.hand().in_state(*range(1, states.CLOSING))
        if servers:
            self.dice.choice(servers).finish()

    def servers_become_unfit_to_move(self) -> None:
        self.hand().plain = self.dice.choice([True, True, False])

    def a_worker_dies(self) -> None:
        if self.dice.random() < 0.3:
            hand = self.hand()
            for _ in range(self.dice.randint(0, len(hand.outbox))):
                self.crew.up(hand)
            self.graves.append(self.crew.kill(hand.number))

    def a_dead_worker_is_buried(self) -> None:
        if self.graves:
            self.crew.bury(self.graves.pop(0))

    def the_limits_change(self) -> None:
        if self.dice.random() < 0.2:
            limits = random_limits(self.dice) | {"pool_mode": self.limits["pool_mode"]}
            self.crew.apply(make_settings(**limits))
            self.allowed = self.crew.excess()

    def run(self, steps: int) -> None:
        frequent = [
            self.a_client_comes,
            self.a_client_asks_again,
            self.a_client_gives_back,
            self.a_message_goes_up,
            self.a_message_comes_down,
            self.time_passes,
            self.postgresql_acts,
        ]
        rare = [
            self.a_client_leaves,
            self.a_janitor_sweeps,
            self.postgresql_closes,
            self.a_worker_dies,
            self.a_dead_worker_is_buried,
            self.the_limits_change,
            self.servers_become_unfit_to_move,
        ]
        for _ in range(steps):
            event = self.dice.choice(frequent * 3 + rare)
            self.log.append(event.__name__)
            event()
            self.check()

    def check(self) -> None:
        self.crew.check()
        excess = self.crew.excess()
        for what, over in excess.items():
            assert over <= self.allowed.get(what, 0), f"{what} exceeded by {over}"
        self.allowed = excess

    def end(self) -> None:
        """Nothing happens any more but that clients use servers: everybody gets one."""
        while self.graves:
            self.crew.bury(self.graves.pop())
        patient = [(hand, one) for hand in self.crew.hands.values() for one in hand.sessions if one.waits]
        for turn in range(4000):
            self.crew.step(0.01)
            if turn % 33 == 0:
                self.crew.sweep()
            self.check()
            for hand in self.crew.hands.values():
                for session in hand.sessions:
                    if session.server is not None:
                        session.gives_back()
            if not any(session.waits for _, session in patient):
                break
        left = [session for _, session in patient if session.waits]
        assert not left, (left, [hand.manager.pools for hand in self.crew.hands.values()])
        self.leave_all()

    def leave_all(self) -> None:
        for hand in self.crew.hands.values():
            for session in list(hand.sessions):
                hand.leave(session)
            hand.manager.pause(None)
        for _ in range(100):
            self.crew.step(0.01)
            self.check()
        for hand in self.crew.hands.values():
            assert hand.manager.servers_left(None) == 0
            assert not hand.leases.contended
            assert not hand.leases.asked
        assert not self.crew.shares.sweep(self.crew.clock())
        for key in self.crew.all_keys():
            assert self.crew.shares.book.of_pool(key) == 0, "a slot is lost"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_in_any_order_of_events_limits_hold_and_everybody_is_served(block: int) -> None:
    for seed in range(block, SCHEDULES, BLOCKS):
        schedule = Schedule(seed)
        try:
            schedule.run(schedule.dice.choice([30, 100, 250]))
            schedule.end()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {schedule.limits}, {schedule.log[-30:]}") from error


@pytest.mark.parametrize("workers", [2, 4])
def test_nobody_waits_beside_a_server_that_another_worker_has_idle(workers: int) -> None:
    dice = random.Random(workers)
    crew = Crew(workers, make_settings(default_pool_size=8, query_wait_timeout=0, server_lifetime=10_000))
    hands = list(crew.hands.values())
    clients = [hands[at % workers].session() for at in range(32)]
    busy_until = dict.fromkeys(clients, 0)
    rests_until = {client: crew.clock() + dice.randrange(SECOND) for client in clients}
    for _ in range(4000):
        crew.step(0.005)
        now = crew.clock()
        for client in clients:
            if client.server is not None and busy_until[client] <= now:
                client.gives_back()
                rests_until[client] = now + int(dice.choice([0, 0, 0, 0.05, 0.3, 2]) * SECOND)
            if client.server is None and not client.waits and rests_until[client] <= now:
                client.asks()
            if client.server is not None and busy_until[client] <= now:
                busy_until[client] = now + int(dice.choice([0.005, 0.01, 0.1]) * SECOND)
        waited = max((now - client.waiting_since for client in clients if client.waits), default=0)
        idle = [server for hand in hands for server in hand.in_state(states.IDLE)]
        rested = max((now - server.released_at for server in idle), default=0)
        assert min(waited, rested) <= SECOND // 20, (waited, rested)
    opened = sum(len(hand.dialler.dialled) for hand in hands)
    assert opened == 8, "servers move, and are not closed and opened"
    assert crew.moved > 20


class Overheard(Crew):
    """`up_count` and `down_count`: messages to and from the ledger."""

    up_count = down_count = 0

    def up(self, hand: Hand) -> None:
        self.up_count += 1
        super().up(hand)

    def down(self, hand: Hand) -> None:
        self.down_count += 1
        super().down(hand)


def test_two_workers_whose_clients_all_wait_have_little_to_say() -> None:
    crew = Overheard(2, make_settings(default_pool_size=8, query_wait_timeout=0, server_lifetime=10_000))
    clients = [hand.session() for hand in crew.hands.values() for _ in range(32)]
    for client in clients:
        client.asks()

    def seconds(count: int) -> None:
        for _ in range(count * 200):
            crew.step(0.005)
            for client in [client for client in clients if client.server is not None]:
                client.gives_back()
                client.asks()

    seconds(5)
    crew.up_count = crew.down_count = crew.moved = 0
    seconds(10)
    assert crew.moved == 0
    assert crew.down_count == 0
    assert crew.up_count <= 2 * 2 * 10, "each worker reports twice in a second"
