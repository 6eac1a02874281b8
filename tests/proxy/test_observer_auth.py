"""What is shown of auth_query: its connection is a server like others, and what it did is counted."""

from tests.proxy.asking import ASKER, table
from tests.support.rig import Rig


async def test_the_connection_is_shown_as_a_server_of_the_role_that_asks() -> None:
    async with Rig(table(alice="x"), auth_user=ASKER, auth_query="lookup $1", credentials={}) as rig:
        observer = rig.worker.observer
        await (await rig.connect()).login("alice")
        shown = [(row.database, row.user, row.state, row.link) for row in observer.servers()]
        assert ("app", ASKER, "idle", "") in shown
        assert [(row.user, row.sv_idle) for row in observer.pools()[:-1]] == [("alice", 1), (ASKER, 1)]
        app, _ = observer.databases()
        assert app.current_connections == 2
        assert observer.lists().pools == 3


async def test_a_role_that_asks_and_comes_as_a_client_has_one_row() -> None:
    async with Rig(table(asker="x"), auth_user=ASKER, auth_query="lookup $1", credentials={}) as rig:
        observer = rig.worker.observer
        await (await rig.connect()).login(ASKER)
        row, _ = observer.pools()
        assert (row.user, row.cl_active, row.sv_idle) == (ASKER, 1, 2)
        assert observer.lists().pools == 2
        assert len(observer.servers()) == 2


async def test_what_was_asked_is_counted() -> None:
    async with Rig(table(alice="x"), auth_user=ASKER, auth_query="lookup $1", auth_query_cache=60) as rig:
        for user in ("carol", "carol", "dave"):
            await rig.worker.lobby.auth_query.secrets("app", user)
        counts = rig.worker.observer.reasons().auth_query
        assert counts == {"questions": 2, "hits": 1, "failures": 0, "unknown": 2, "throttled": 0}
