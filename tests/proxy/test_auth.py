"""Which method a client meets, what it is checked against, and who comes in by the back door."""

import pytest

from protocol.login import Derive
from proxy.derive import Deriver
from tests.proxy.asking import ASKER, Reply, Secrets, error, table
from tests.support import messages as m
from tests.support import scram
from tests.support.rig import Rig, eventually


@pytest.mark.parametrize(
    ("auth_type", "request_"),
    [("plain", m.int32(3)), ("md5", m.int32(5)), ("scram-sha-256", m.int32(10))],
)
async def test_the_method_is_the_configured_one_for_known_and_unknown_users(
    auth_type: str, request_: bytes
) -> None:
    async with Rig(auth_type=auth_type, credentials={"alice": "secret"}) as rig:
        for user in ("alice", "nobody"):
            peer = await rig.connect()
            peer.send(m.startup({"user": user, "database": "app"}))
            assert (await peer.password()).body[:4] == request_


async def test_a_user_of_any_name_comes_in_where_nobody_is_asked() -> None:
    async with Rig(auth_type="any", credentials={}, database={"user": "app"}) as rig:
        peer = await rig.connect()
        await peer.login("whoever")
        assert [one.startup["user"] for one in rig.fake.conversations] == ["app"]


async def test_where_nobody_is_asked_nobody_is_logged_in_as_whom_he_names() -> None:
    """The auth file would open a server for whoever says that he is alice."""
    async with Rig(auth_type="any", credentials={"alice": "secret"}) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("F0000", "bouncer config error")
        assert rig.fake.logins() == 0


async def test_trust_is_for_users_who_are_known() -> None:
    async with Rig(auth_type="trust", credentials={"alice": "secret"}) as rig:
        await (await rig.connect()).login("alice")
        peer = await rig.connect()
        peer.send(m.startup({"user": "nobody", "database": "app"}))
        assert (await peer.error())["C"] == "28000"


async def test_by_tcp_the_name_of_the_back_door_opens_nothing() -> None:
    async with Rig(auth_type="plain", credentials={"alice": "secret"}) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "pgbouncer", "database": "pgbouncer"}))
        await peer.password()


# By auth_query.


def rig(script: Secrets, **settings: object) -> Rig:
    fixed = {"auth_user": ASKER, "auth_query": "lookup $1", "credentials": {"listed": "x"}}
    return Rig(script, **{**fixed, **settings})  # type: ignore[arg-type]


async def by_password(one: Rig, user: str, password: str, database: str = "app") -> str:
    """The tag with which a login by clear-text password ends, or the error's text."""
    peer = await one.connect()
    peer.send(m.startup({"user": user, "database": database}))
    assert (await peer.password()).body == m.int32(3)
    peer.send(m.password(password))
    got = await peer.read()
    return m.fields_of(got.body)["M"] if got.tag == b"E" else got.tag.decode()


async def by_scram(one: Rig, user: str, password: str) -> tuple[str, dict[str, str]]:
    """The tag with which a login by SCRAM ends, or the error's text; and what the server said first."""
    peer = await one.connect()
    peer.send(m.startup({"user": user, "database": "app"}))
    assert (await peer.password()).body[:4] == m.int32(10)
    client = scram.ScramClient(password)
    peer.send(m.sasl_initial("SCRAM-SHA-256", client.first()))
    challenge = (await peer.password()).body[4:]
    peer.send(m.sasl_response(client.final(challenge)))
    got = await peer.read()
    return m.fields_of(got.body)["M"] if got.tag == b"E" else got.tag.decode(), scram.attributes(challenge)


async def test_users_of_the_auth_file_are_not_asked_about() -> None:
    script = table(listed="another")
    async with rig(script, auth_type="plain") as one:
        assert await by_password(one, "listed", "x") == "R"
        assert script.asked == []
        assert await by_password(one, "listed", "another") == "password authentication failed"


async def test_a_user_is_let_in_by_the_secret_that_auth_query_finds() -> None:
    script = table(alice="hers")
    async with rig(script, auth_type="plain") as one:
        assert await by_password(one, "alice", "hers") == "R"
        assert await by_password(one, "alice", "wrong") == "password authentication failed"
        assert await by_password(one, "nobody", "hers") == "password authentication failed"


async def test_where_nobody_has_to_prove_anything_nobody_is_asked_about() -> None:
    script = table()
    async with rig(script, auth_type="any", database={"user": "app"}) as one:
        await (await one.connect()).login("whoever")
        assert script.asked == []


async def test_trust_is_for_users_whom_auth_query_knows_if_only_without_a_password() -> None:
    async with rig(table(alice=None), auth_type="trust") as one:
        await (await one.connect()).login("alice")
        peer = await one.connect()
        peer.send(m.startup({"user": "nobody", "database": "app"}))
        error = await peer.error()
        assert (error["C"], error["M"]) == ("28000", "no such user")


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
async def test_an_unknown_user_meets_what_a_known_one_meets(auth_type: str) -> None:
    script = table(alice=scram.verifier("hers"), expired=None)
    async with rig(script, auth_type=auth_type) as one:
        assert (await by_scram(one, "alice", "hers"))[0] == "R"
        for user in ("nobody", "expired"):
            first, again = [await by_scram(one, user, "hers") for _ in range(2)]
            assert first[0] == "SASL authentication failed" == (await by_scram(one, "alice", "no"))[0]
            assert (first[1]["s"], first[1]["i"]) == (again[1]["s"], "4096")
        assert len(script.asked) == 7


async def test_an_unknown_user_meets_as_many_iterations_as_are_usual() -> None:
    async with rig(table(alice=scram.verifier("hers", iterations=5000)), auth_type="scram-sha-256") as one:
        assert (await by_scram(one, "nobody", "x"))[1]["i"] == "4096"
        first = await by_scram(one, "alice", "hers")
        again = await by_scram(one, "nobody", "x")
        assert (first[0], first[1]["i"], again[1]["i"]) == ("R", "5000", "5000")


async def test_a_clear_text_password_of_an_unknown_user_is_derived_as_that_of_a_known_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    derived: list[bytes] = []
    derive = Deriver.derive

    async def note(deriver: Deriver, step: Derive) -> bytes:
        derived.append(step.password)
        return await derive(deriver, step)

    monkeypatch.setattr(Deriver, "derive", note)
    async with rig(table(alice=scram.verifier("hers"), expired=None), auth_type="plain") as one:
        for user in ("alice", "nobody", "expired"):
            assert await by_password(one, user, f"of {user}") == "password authentication failed"
    assert derived == [b"of alice", b"of nobody", b"of expired"]


async def test_where_md5_secrets_are_usual_an_unknown_user_meets_md5() -> None:
    async with rig(table(alice="md5" + "0" * 32), auth_type="md5") as one:
        for user in ("alice", "nobody"):
            peer = await one.connect()
            peer.send(m.startup({"user": user, "database": "app"}))
            assert (await peer.password()).body[:4] == m.int32(5)


async def test_a_rotated_password_is_taken_at_once_where_the_same_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.auth_query.FRESH_FOR", 0)
    secret = ["old"]
    script = Secrets(lambda question: [question.value, secret[0]])
    async with rig(script, auth_type="plain", auth_query_cache=60) as one:
        assert await by_password(one, "alice", "old") == "R"
        secret[0] = "new"
        assert await by_password(one, "alice", "new") == "R"
        assert await by_password(one, "alice", "old") == "password authentication failed"
        assert len(script.asked) == 3


async def test_a_rotated_verifier_costs_one_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.auth_query.FRESH_FOR", 0)
    secret = [scram.verifier("old", salt=b"one salt")]
    script = Secrets(lambda question: [question.value, secret[0]])
    async with rig(script, auth_type="scram-sha-256", auth_query_cache=60) as one:
        assert (await by_scram(one, "alice", "old"))[0] == "R"
        secret[0] = scram.verifier("new", salt=b"another salt")
        assert (await by_scram(one, "alice", "new"))[0] == "SASL authentication failed"
        assert (await by_scram(one, "alice", "new"))[0] == "R"


async def test_a_login_that_failed_stays_so_where_it_cannot_be_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.auth_query.FRESH_FOR", 0)
    replies: list[Reply] = [["alice", "hers"], error("42501", "no longer allowed")]
    script = Secrets(lambda _: replies.pop(0))
    async with rig(script, auth_type="plain", auth_query_cache=60) as one:
        assert await by_password(one, "alice", "hers") == "R"
        assert await by_password(one, "alice", "wrong") == "password authentication failed"


async def test_what_a_client_asks_for_at_startup_is_not_said_to_the_server_that_is_asked() -> None:
    script = table(alice="hers")
    async with rig(script, auth_type="plain", track_extra_parameters=["search_path"]) as one:
        peer = await one.connect()
        wishes = {"search_path": "evil", "options": "-c search_path=evil", "application_name": "evil"}
        peer.send(m.startup({"user": "alice", "database": "app", **wishes}))
        await peer.password()
        assert one.fake.conversations[0].startup == {"user": ASKER, "database": "app"}
        assert "evil" not in script.asked[0].settings


async def test_a_login_that_waits_for_the_server_shows_and_says_so() -> None:
    async with rig(table(alice="x"), auth_type="plain", client_login_timeout=0.3) as one:
        lobby = one.worker.lobby
        one.worker.manager.pause("app")
        peer = await one.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: any(one.waits_for_login for one in lobby.clients.values()))
        assert (await peer.error())["M"] == "client_login_timeout (server down)"


async def test_a_login_that_waits_to_ask_again_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.auth_query.FRESH_FOR", 0)
    settings = {"auth_type": "plain", "auth_query_cache": 60, "client_login_timeout": 0.3}
    async with rig(table(alice="hers"), **settings) as one:
        assert await by_password(one, "alice", "hers") == "R"
        one.worker.manager.pause("app")
        assert await by_password(one, "alice", "wrong") == "client_login_timeout (server down)"


async def test_a_client_of_the_console_is_asked_about_in_auth_dbname() -> None:
    settings = {"auth_type": "plain", "auth_dbname": "app", "admin_users": ["alice"]}
    async with rig(table(alice="hers"), **settings) as one:
        assert await by_password(one, "alice", "hers", "pgbouncer") == "R"
        assert await by_password(one, "alice", "wrong", "pgbouncer") == "password authentication failed"


async def test_the_client_hears_little_of_a_query_that_fails() -> None:
    async with rig(Secrets(lambda _: error("42501", "permission denied")), auth_type="plain") as one:
        peer = await one.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        got = await peer.error()
        assert (got["S"], got["C"], got["M"]) == ("FATAL", "F0000", "bouncer config error")


async def test_with_two_verifiers_of_a_user_either_password_comes_in_at_the_second_try() -> None:
    both = [scram.verifier("old", salt=b"old salt"), scram.verifier("new", salt=b"new salt")]
    async with Rig(auth_type="scram-sha-256", credentials={"alice": both}) as one:
        assert (await by_scram(one, "alice", "old"))[0] == "R"
        assert (await by_scram(one, "alice", "new"))[0] == "SASL authentication failed"
        for _ in range(2):
            assert (await by_scram(one, "alice", "new"))[0] == "R"


@pytest.mark.parametrize("user", ["alice", "nobody"])
async def test_plain_passwords_are_asked_for_with_scram_iterations(user: str) -> None:
    async with Rig(auth_type="scram-sha-256", scram_iterations=777, credentials={"alice": "hers"}) as one:
        peer = await one.connect()
        peer.send(m.startup({"user": user, "database": "app"}))
        await peer.password()
        peer.send(m.sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc"))
        assert scram.attributes((await peer.password()).body[4:])["i"] == "777"
