"""What tells the connections of several workers apart; the rest is in test_observer."""

from proxy.socket_list import Sockets
from tests.proxy.test_observer import script
from tests.support.rig import Rig


async def test_addresses_carry_the_worker_and_join_client_and_server() -> None:
    async with Rig(script) as rig:
        peer = await rig.client()
        await peer.ask("begin")
        lobby, pool = rig.worker.lobby, next(iter(rig.worker.manager.pools.values()))
        sockets = Sockets(lobby.clients, rig.worker.clock, number=3)
        (client,) = sockets.clients(lobby.clients.values())
        (server,) = sockets.servers(server for servers in pool.servers for server in servers)  # type: ignore[misc]
        assert (client.link, server.link) == (server.ptr, client.ptr)
        (alone,) = rig.worker.observer.clients()
        assert int(client.ptr, 16) == int(alone.ptr, 16) + (3 << 48)


async def test_clients_come_in_parts_without_those_that_leave_meanwhile() -> None:
    async with Rig(script) as rig:
        for _ in range(5):
            await rig.client()
        parts = rig.worker.observer.client_parts(2)
        seen = [each.id for each in next(parts)]
        gone = list(rig.worker.lobby.clients)[2]
        await rig.worker.kill_client(gone)
        seen += [each.id for part in parts for each in part]
        assert len(seen) == 4
        assert gone not in seen
