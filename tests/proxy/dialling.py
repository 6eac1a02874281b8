"""What tests of the dialler share: a pool of a rig, and servers opened for nobody."""

from proxy.pool import states
from proxy.pool.pool import Pool
from proxy.pool.states import SERVER_STATES
from proxy.server import Server
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation, Script


def pool_of(rig: Rig, user: str = "alice") -> Pool:
    manager = rig.worker.manager
    return manager.pool(manager.database("app", 0), user)


def dial(rig: Rig, pool: Pool, boot: tuple[tuple[bytes, bytes], ...] = ()) -> Server:
    """As `Pool.demand` does it, for nobody."""
    assert pool.leases.take(pool.key, reserve=False, since=0)
    host = pool.hosts.choose(pool.settings, rig.worker.clock())
    assert host is not None
    pool.hosts.started(host)
    server = rig.worker.dialler.dial(pool, host, boot)
    pool.servers[states.LOGIN][server] = None
    pool.open += 1
    return server


async def opened(rig: Rig, pool: Pool) -> Server:
    server = dial(rig, pool)
    await eventually(lambda: server.state == states.IDLE, SERVER_STATES[server.state])
    return server


async def gone(rig: Rig, pool: Pool) -> None:
    await eventually(lambda: not pool.open)
    assert rig.worker.manager.ledger.of_pool(pool.key) == 0


def refusing(code: str, text: str = "no") -> Script:
    def script(conversation: Conversation) -> None:
        conversation.refuse(code, text)

    return script
