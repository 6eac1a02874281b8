"""Processes of the pooler without a descriptor left: who is in is served, who comes waits in the kernel."""

import asyncio
import os
import select
import socket
from contextlib import ExitStack

from tests.support import messages as m
from tests.support.crowd import DEADLINE, Crowd, until
from tests.support.pooler import Pooler, Sections
from tests.support.rush import Caller, callers
from tests.support.server import Server
from tests.support.standard import APP, databases, entry, howdah_only

pytestmark = howdah_only("only Howdah has workers")


class Cramped(Pooler):
    """Each of its processes may have `most` descriptors."""

    def __init__(self, entries: Sections, most: int, user: str) -> None:
        super().__init__(entries, {"workers": 2, "worker_timeout": 30}, user=user)
        self.most = most

    def command(self) -> list[str]:
        return ["sh", "-c", f'ulimit -n {self.most}; exec "$@"', "sh", *super().command()]


def open_in(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_without_descriptors_newcomers_wait_until_somebody_leaves(server: Server) -> None:
    with Cramped(databases(server), 64, server.user) as pooler, ExitStack() as stack:
        crowd = Crowd(pooler)
        before = crowd.wait_for_workers(2)
        waiting = [stack.enter_context(talker(pooler)) for _ in range(120)]
        until(lambda: sum(is_served(client, 0) for client in waiting) >= 40, "nobody comes in")
        assert sum(is_served(client, 0) for client in waiting) < 100
        # All are served in the end, each when there is room for it.
        for client in waiting:
            assert is_served(client, DEADLINE)
            client.close()
        assert crowd.workers() == before


def test_a_supervisor_without_descriptors_goes_on_when_workers_have_taken_clients_over(
    server: Server,
) -> None:
    with Cramped(databases(server), 64, server.user) as pooler, ExitStack() as stack:
        crowd = Crowd(pooler)
        before = crowd.wait_for_workers(2)
        with crowd.stopped(before[0]), crowd.stopped(before[1]):
            # Until a worker has taken over whom it was given, both have the socket.
            waiting = [stack.enter_context(talker(pooler)) for _ in range(70)]
            pooler.wait_for_log("no clients are accepted for a moment: Too many open files")
            assert not any(is_served(client, 0) for client in waiting)
        for client in waiting:
            assert is_served(client, DEADLINE)
            client.close()
        assert crowd.workers() == before
        assert "a client was lost" not in pooler.log()


def talker(pooler: Pooler) -> socket.socket:
    """A client that has asked to come in, whoever listens."""
    client = socket.create_connection((pooler.host, pooler.port), DEADLINE)
    client.sendall(m.startup({"user": pooler.user, "database": APP}))
    return client


def is_served(client: socket.socket, within: float) -> bool:
    """Whether an answer is there."""
    readable, _, _ = select.select([client], [], [], within)
    return bool(readable) and client.recv(1, socket.MSG_PEEK) == b"R"


def test_where_servers_take_the_last_descriptors_clients_share_those_and_nobody_is_lost(
    server: Server,
) -> None:
    """Half of them would do for the clients, and the supervisor would have a copy of each server's socket."""
    most, count = 96, 100
    with Cramped({APP: entry(server, pool_size=count)}, most, server.user) as pooler:
        crowd = Crowd(pooler)
        before = crowd.wait_for_workers(2)

        async def play() -> None:
            clients = await callers(pooler, count, APP)
            asked = [asyncio.create_task(client.ask(b"SELECT pg_sleep(0.5)")) for client in clients]
            await asyncio.to_thread(pooler.wait_for_log, "Too many open files")
            assert open_in(crowd.supervisor) < most - 32
            newcomers = [Caller(pooler.user, APP) for _ in range(10)]
            coming = [asyncio.create_task(each.connect(pooler.port)) for each in newcomers]
            await asyncio.gather(*asked)
            assert not any(task.done() for task in coming)
            for client in clients:
                assert not client.error
                client.close()
            await asyncio.gather(*coming)
            for newcomer in newcomers:
                newcomer.close()

        asyncio.run(play())
        assert crowd.workers() == before
        assert "a client was lost" not in pooler.log()
