"""Where auth_query cannot be asked, and who has asked too much: what is heard of it, and what is not."""

import asyncio

import pytest

from protocol.login import PlainSecret
from proxy.errors import PoolerError
from tests.proxy.asking import ASKER, FAILED, Secrets, asking, error, rig, table
from tests.support import messages as m
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation


async def test_where_nobody_is_to_be_asked_everybody_is_unknown() -> None:
    script = table(alice="x")
    async with rig(script, auth_user="") as one:
        assert await asking(one).secrets("app", "alice") is None
    async with rig(script) as one:
        assert await asking(one).secrets("nowhere", "alice") is None
    assert script.asked == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("28P01", 'password authentication failed for user "asker"'),
        ("28000", 'no pg_hba.conf entry for host "10.9.8.7", user "asker", database "app"'),
        ("3D000", 'database "inside" does not exist'),
    ],
)
async def test_what_postgresql_tells_the_role_that_asks_is_for_the_log(
    code: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.send(m.error_response(code, text))

    named = 'database "app" does not exist' if code == "3D000" else FAILED
    async with Rig(refuse, auth_user=ASKER, databases={"other": {"auth_dbname": "app"}}) as one:
        for database in ("other", "app", "app"):
            with pytest.raises(PoolerError) as caught:
                await asking(one).secrets(database, "carol")
            assert caught.value.message == (named if database == "app" else FAILED)
            assert caught.value.raw is None
    assert text in caplog.text


@pytest.mark.parametrize(
    ("where", "text", "logged"),
    [
        ("nowhere", FAILED, 'authentication database "nowhere" is not configured.'),
        ("pgbouncer", FAILED, 'cannot use the reserved "pgbouncer" database as an auth_dbname'),
        ("closed", 'authentication database "closed" is disabled', ""),
    ],
)
async def test_a_database_that_cannot_be_asked_is_said_as_pgbouncer_does(
    where: str, text: str, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(table(), databases={"closed": {}, "here": {"auth_dbname": where}}) as one:
        one.worker.manager.disable("closed", True)
        with pytest.raises(PoolerError) as caught:
            await asking(one).secrets("here", "alice")
        assert caught.value.message == text
    assert logged in caplog.text


async def test_the_console_is_asked_about_in_the_global_database_only() -> None:
    async with rig(table(alice="x"), auth_dbname="app") as one:
        assert await asking(one).secrets("pgbouncer", "alice") == [PlainSecret(b"x")]
    async with rig(table(alice="x")) as one:
        with pytest.raises(PoolerError, match=FAILED):
            await asking(one).secrets("pgbouncer", "alice")


# Who has asked too much.


async def test_an_address_that_asks_about_too_many_unknown_names_waits_and_is_then_refused() -> None:
    async with rig(table(), auth_query_unknown_rate=1) as one:
        for number in range(2):
            await asking(one).secrets("app", f"nobody{number}", "10.0.0.1")
        assert asking(one).counts.throttled == 0
        waiting = [
            asyncio.create_task(asking(one).secrets("app", f"more{number}", "10.0.0.1"))
            for number in range(10)
        ]
        with pytest.raises(PoolerError, match="too many logins of unknown users") as caught:
            await asyncio.gather(*waiting)
        assert caught.value.sqlstate == "53300"
        assert await asking(one).secrets("app", "nobody", "10.0.0.2") is None
        assert asking(one).counts.throttled == 10
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_question_that_fails_costs_its_address_as_much_as_an_unknown_name() -> None:
    script = Secrets(lambda _: error("42501", "permission denied"))
    async with rig(script, auth_query_unknown_rate=1) as one:
        for number in range(10):
            with pytest.raises(PoolerError, match=FAILED):
                await asking(one).secrets("app", f"somebody{number}", f"10.0.0.{number // 2}")
        assert asking(one).counts.throttled == 0
        login = asyncio.create_task(asking(one).secrets("app", "more", "10.0.0.1"))
        await eventually(lambda: asking(one).counts.throttled == 1)
        login.cancel()


async def test_a_question_whose_client_has_gone_is_paid_for() -> None:
    script = table()
    async with rig(script, auth_query_unknown_rate=1) as one:
        await asking(one).secrets("app", "nobody", "10.0.0.1")
        script.gate.clear()
        login = asyncio.create_task(asking(one).secrets("app", "another", "10.0.0.1"))
        await eventually(lambda: len(script.asked) == 2)
        login.cancel()
        script.gate.set()
        await eventually(lambda: asking(one).counts.unknown == 2)
        login = asyncio.create_task(asking(one).secrets("app", "more", "10.0.0.1"))
        await eventually(lambda: asking(one).counts.throttled == 1)
        login.cancel()


@pytest.mark.parametrize("auth_type", ["plain", "trust"])
async def test_strangers_do_not_shut_out_who_has_logged_in_from_their_address(auth_type: str) -> None:
    async with rig(table(carol="hers"), auth_query_unknown_rate=1, auth_type=auth_type) as one:

        async def login() -> None:
            peer = await one.connect()
            peer.send(m.startup({"user": "carol", "database": "app"}))
            if auth_type == "plain":
                await peer.password()
                peer.send(m.password("hers"))
            await peer.welcome()

        await login()
        for number in range(2):
            await asking(one).secrets("app", f"nobody{number}", "127.0.0.1")
        waiting = [
            asyncio.create_task(asking(one).secrets("app", f"more{number}", "127.0.0.1"))
            for number in range(7)
        ]
        await eventually(lambda: asking(one).counts.throttled == 7)
        await login()
        assert asking(one).counts.throttled == 7
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
