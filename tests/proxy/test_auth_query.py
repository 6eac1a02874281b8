"""Secrets asked of PostgreSQL: what is asked, how often, what the answers mean, what is heard of failures."""

import asyncio
import logging

import pytest

from protocol.login import Md5Secret, PlainSecret, ScramVerifier
from proxy.credentials import NO_PASSWORD
from proxy.errors import PoolerError
from tests.proxy.asking import ASKER, FAILED, UNKNOWN, Question, Reply, Secrets, asking, error, rig, table
from tests.support import messages as m
from tests.support import scram
from tests.support.rig import eventually

VERIFIER = scram.verifier("hers")


# What is asked.


@pytest.mark.both_loops
async def test_the_name_is_a_bound_value_and_the_settings_come_first() -> None:
    script = table(alice="secret")
    async with rig(script) as one:
        assert await asking(one).secrets("app", "alice") == [PlainSecret(b"secret")]
        (question,) = script.asked
        assert (question.sql, question.value) == ("lookup $1", "alice")
        for setting in ("standard_conforming_strings', 'on'", "statement_timeout', '10000'"):
            assert setting in question.settings
        assert "search_path', 'pg_catalog, pg_temp'" in question.settings
        assert one.fake.conversations[0].startup == {"user": ASKER, "database": "app"}


@pytest.mark.parametrize("name", ["o'Brien", '"', "a;b--", "x\\' or 1=1", "ü", "\udcff\udcfe", "n" * 127])
async def test_names_of_any_kind_are_asked_about_as_they_are(name: str) -> None:
    script = table(**{name: "secret"})
    async with rig(script) as one:
        assert await asking(one).secrets("app", name) == [PlainSecret(b"secret")]
        assert script.asked[0].sql == "lookup $1"


async def test_a_query_that_needs_a_search_path_is_asked_again_with_the_roles_own() -> None:
    def reply(question: Question) -> Reply:
        return error("42883", "no such function") if "search_path" in question.settings else ["a", "s"]

    script = Secrets(reply)
    async with rig(script) as one:
        assert await asking(one).secrets("app", "a") == [PlainSecret(b"s")]
        await asking(one).secrets("app", "a")
        assert ["search_path" in one.settings for one in script.asked] == [True, False, False]
        one.worker.lobby.apply()
        await asking(one).secrets("app", "a")
        assert len(script.asked) == 5


async def test_a_name_that_fails_anyway_does_not_loosen_the_search_path() -> None:
    def reply(question: Question) -> Reply:
        return error("42704", 'role "x" does not exist') if question.value == "x" else ["a", "s"]

    script = Secrets(reply)
    async with rig(script) as one:
        with pytest.raises(PoolerError, match=FAILED):
            await asking(one).secrets("app", "x")
        await asking(one).secrets("app", "a")
        assert ["search_path" in one.settings for one in script.asked] == [True, False, True]


async def test_the_databases_own_query_user_and_database_are_asked() -> None:
    script = table(alice="secret")
    entry = {"auth_user": ASKER, "auth_query": "mine $1", "auth_dbname": "app"}
    async with rig(script, auth_user="", databases={"other": entry}) as one:
        assert await asking(one).secrets("app", "alice") is None
        assert await asking(one).secrets("other", "alice") == [PlainSecret(b"secret")]
        assert [(one.sql, one.connection) for one in script.asked] == [("mine $1", 1)]
        assert one.fake.conversations[0].startup["database"] == "app"


# What the answers mean.


@pytest.mark.parametrize(
    ("secret", "kind"),
    [("plain", PlainSecret), ("md5" + "0" * 32, Md5Secret), (VERIFIER, ScramVerifier)],
)
async def test_each_form_of_a_secret_is_known(secret: str, kind: type) -> None:
    async with rig(table(alice=secret)) as one:
        found = await asking(one).secrets("app", "alice")
        assert found is not None
        assert [type(secret) for secret in found] == [kind]


@pytest.mark.parametrize("secret", [None, ""])
async def test_null_is_a_user_without_a_password(secret: str | None) -> None:
    async with rig(table(alice=secret)) as one:
        assert await asking(one).secrets("app", "alice") == [NO_PASSWORD]


async def test_a_broken_verifier_lets_nobody_in_and_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(table(alice="SCRAM-SHA-256$hunter2")) as one:
        assert await asking(one).secrets("app", "alice") == [NO_PASSWORD]
    assert "secret of user alice is of no use" in caplog.text
    assert "hunter2" not in caplog.text


async def test_no_row_is_an_unknown_user() -> None:
    async with rig(table()) as one:
        assert await asking(one).secrets("app", "nobody") is None
        assert asking(one).counts.unknown == 1
        assert asking(one).counts.failures == 0


async def test_an_answer_about_somebody_else_is_none(caplog: pytest.LogCaptureFixture) -> None:
    async with rig(Secrets(lambda _: ["postgres", "secret"])) as one:
        assert await asking(one).secrets("app", "alice") is None
    assert "asked about user alice and answered about postgres" in caplog.text


@pytest.mark.parametrize("code", ["22021", "22P05"])
async def test_a_name_that_is_no_text_to_postgresql_is_unknown(code: str) -> None:
    async with rig(Secrets(lambda _: error(code, "invalid byte sequence"))) as one:
        assert await asking(one).secrets("app", "\udcff") is None


@pytest.mark.parametrize(
    ("reply", "logged"),
    [
        (["alice"], "expected 2 columns from auth_query, not 1"),
        (["alice", "x", "y"], "expected 2 columns from auth_query, not 3"),
        ([None, "x"], "auth_query response contained null user name"),
        (m.data_row(["alice", "x"]) * 2 + m.command_complete("SELECT 2"), "expected one row from auth_query"),
        (error("42501", "permission denied"), "ERROR | 42501 | permission denied | because | do this"),
        (m.data_row(["alice", "x" * (1 << 20)]), "auth_query failed"),
        (m.message(b"W"), "auth_query failed"),
        (m.message(b"E", b"M"), "auth_query failed: string without a terminator"),
    ],
)
async def test_an_answer_that_is_none_is_logged_in_full_and_the_client_hears_little(
    reply: Reply, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(Secrets(lambda _: reply)) as one:
        with pytest.raises(PoolerError) as caught:
            await asking(one).secrets("app", "alice")
        assert (caught.value.message, caught.value.sqlstate) == (FAILED, "F0000")
        assert asking(one).counts.failures == 1
    assert logged in caplog.text


async def test_a_question_that_takes_too_long_is_a_timeout() -> None:
    async with rig(Secrets(lambda _: error("57014", "canceling statement due to statement timeout"))) as one:
        with pytest.raises(PoolerError, match="auth_query_timeout") as caught:
            await asking(one).secrets("app", "alice")
        assert caught.value.sqlstate == "57014"


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.question.GRACE", 0.0)
    script = table(alice="x")
    script.gate.clear()
    async with rig(script, auth_query_timeout=0.1) as one:
        with pytest.raises(PoolerError, match="auth_query_timeout"):
            await asking(one).secrets("app", "alice")
        script.gate.set()
        await eventually(lambda: not one.worker.manager.servers_left("app"))


async def test_one_users_verifier_does_not_say_what_is_usual() -> None:
    script = table(alice=VERIFIER, bob=VERIFIER, mallory=scram.verifier("his", iterations=123_457))
    async with rig(script) as one:
        for name in ("alice", "bob", "mallory", "nobody"):
            await asking(one).secrets("app", name)
        assert asking(one).usual_iterations == 4096


# How often it is asked.


async def test_without_a_cache_each_login_asks() -> None:
    script = table(alice="x")
    async with rig(script) as one:
        for _ in range(3):
            await asking(one).secrets("app", "alice")
        assert len(script.asked) == asking(one).counts.questions == 3
        assert {question.connection for question in script.asked} == {1}


async def test_with_a_cache_known_and_unknown_names_are_remembered() -> None:
    script = table(alice="x")
    async with rig(script, auth_query_cache=60) as one:
        for _ in range(3):
            assert await asking(one).secrets("app", "alice") == [PlainSecret(b"x")]
            assert await asking(one).secrets("app", "nobody") is None
        assert [question.value for question in script.asked] == ["alice", "nobody"]
        assert asking(one).counts.hits == 4
        one.worker.lobby.apply()
        await asking(one).secrets("app", "alice")
        assert len(script.asked) == 3


async def test_an_answer_from_before_a_reload_is_neither_shared_nor_remembered_behind_it() -> None:
    script = table(alice="x")
    script.gate.clear()
    async with rig(script, auth_query_cache=60) as one:
        before = asyncio.create_task(asking(one).secrets("app", "alice"))
        await eventually(lambda: script.asked)
        one.worker.lobby.apply()
        behind = asyncio.create_task(asking(one).secrets("app", "alice"))
        await eventually(lambda: any(pool.waiting for pool in one.worker.manager.pools.values()))
        one.worker.lobby.apply()
        script.gate.set()
        assert await before == await behind == [PlainSecret(b"x")]
        await asking(one).secrets("app", "alice")
        assert len(script.asked) == 3


async def test_what_failed_is_asked_anew_unless_it_is_fresh_whoever_it_is_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets: dict[str, str | None] = {"alice": "old"}
    script = table()
    script.reply = lambda one: [one.value, secrets[one.value]] if one.value in secrets else UNKNOWN
    async with rig(script, auth_query_cache=60) as one:
        await asking(one).secrets("app", "alice")
        await asking(one).secrets("app", "nobody")
        assert [await asking(one).newer("app", name) for name in ("alice", "nobody")] == [None, None]
        secrets["alice"] = "new"
        monkeypatch.setattr("proxy.auth_query.FRESH_FOR", 0)
        assert await asking(one).newer("app", "alice") == [PlainSecret(b"new")]
        assert await asking(one).newer("app", "nobody") is None
        assert await asking(one).secrets("app", "alice") == [PlainSecret(b"new")]
        assert [question.value for question in script.asked] == ["alice", "nobody", "alice", "nobody"]


async def test_without_a_cache_nothing_is_newer_than_what_was_asked() -> None:
    async with rig(table(alice="x")) as one:
        assert await asking(one).newer("app", "alice") is None
        assert await asking(one).newer("nowhere", "alice") is None


@pytest.mark.both_loops
async def test_logins_of_one_name_share_a_question() -> None:
    script = table(alice="x", bob="y")
    script.gate.clear()
    async with rig(script) as one:
        names = ["alice", "bob"] * 100
        logins = [asyncio.create_task(asking(one).secrets("app", name)) for name in names]
        await eventually(lambda: script.asked)
        script.gate.set()
        found = await asyncio.gather(*logins)
        assert found == [[PlainSecret(b"x")], [PlainSecret(b"y")]] * 100
        assert sorted(question.value for question in script.asked) == ["alice", "bob"]


async def test_who_leaves_does_not_take_the_question_along() -> None:
    script = table(alice="x")
    script.gate.clear()
    async with rig(script) as one:
        first, second = (asyncio.create_task(asking(one).secrets("app", "alice")) for _ in range(2))
        await eventually(lambda: script.asked)
        first.cancel()
        script.gate.set()
        assert await second == [PlainSecret(b"x")]
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_question_all_have_left_is_not_sent_but_one_that_was_is_heard_out() -> None:
    script = table(alice="x", bob="y")
    script.gate.clear()
    async with rig(script, auth_query_cache=60) as one:
        sent = asyncio.create_task(asking(one).secrets("app", "alice"))
        await eventually(lambda: script.asked)
        waiting = asyncio.create_task(asking(one).secrets("app", "bob"))
        await asyncio.sleep(0)
        (pool,) = one.worker.manager.pools.values()
        await eventually(lambda: pool.waiting)
        for task in (sent, waiting):
            task.cancel()
        await eventually(lambda: not pool.waiting)
        again = asyncio.create_task(asking(one).secrets("app", "bob"))
        script.gate.set()
        assert await again == [PlainSecret(b"y")]
        assert await asking(one).secrets("app", "alice") == [PlainSecret(b"x")]
        assert [(question.value, question.connection) for question in script.asked] == [
            ("alice", 1),
            ("bob", 1),
        ]


# When the server goes.


async def test_a_question_whose_server_goes_is_asked_again() -> None:
    script = table(alice="x")
    script.hang_up_on = {1, 2}
    async with rig(script) as one:
        assert await asking(one).secrets("app", "alice") == [PlainSecret(b"x")]
        assert [question.connection for question in script.asked] == [1, 2, 3]


async def test_a_question_that_takes_every_server_along_is_given_up() -> None:
    script = table(alice="x")
    script.hang_up_on = {1, 2, 3}
    async with rig(script) as one:
        with pytest.raises(PoolerError, match="server conn crashed"):
            await asking(one).secrets("app", "alice")
        assert await asking(one).secrets("app", "alice") == [PlainSecret(b"x")]


# Other questions.


async def test_other_questions_are_asked_on_the_same_connection() -> None:
    script = Secrets(lambda question: [question.value, None])
    async with rig(script) as one:
        assert await asking(one).rows("app", "groups $1", ["alice"]) == [(b"alice", None)]
        await asking(one).secrets("app", "alice")
        assert {question.connection for question in script.asked} == {1}
        with pytest.raises(PoolerError, match=FAILED):
            await asking(one).rows("nowhere", "groups $1", ["alice"])


async def test_a_question_with_an_impossible_value_has_no_rows() -> None:
    async with rig(Secrets(lambda _: error("22021", "x"))) as one:
        assert await asking(one).rows("app", "groups $1", ["\udcff"]) == []


async def test_the_connection_counts_for_the_database_and_gives_way_to_a_client() -> None:
    script = table(alice="x")
    async with rig(script, auth_type="trust", database={"max_db_connections": 1}) as one:
        logging.getLogger("howdah").setLevel(logging.INFO)
        for _ in range(3):
            peer = await one.connect()
            await peer.login("alice")
            assert one.worker.manager.ledger.of_database("app") == 1
            await peer.ask("select 1")
            await peer.gone()
        assert len(script.asked) == 3
