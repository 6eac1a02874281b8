"""What a server answers to the request for TLS, and what becomes of it under each sslmode."""

import asyncio
import tracemalloc

import pytest

from config.databases import DatabaseSettings
from config.settings import Settings
from config.tls import server_tls
from proxy.encryption import Way, ways
from proxy.pool import states
from proxy.reasons import ServerClosed
from tests.proxy.dialling import dial, gone, opened, pool_of
from tests.proxy.encrypted import STRONG, WEAK, login_refused, only_if, secure, trusting
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.rig import Rig, eventually
from tests.support.script import Conversation

INJECTED = m.error_response("28000", "injected words")


@pytest.mark.parametrize(
    ("mode", "negotiation", "expected"),
    [
        ("disable", "postgres", (Way.PLAIN,)),
        ("allow", "postgres", (Way.PLAIN, Way.TLS)),
        ("prefer", "postgres", (Way.ASK, Way.PLAIN)),
        *((mode, "postgres", (Way.TLS,)) for mode in STRONG),
        *((mode, "direct", (Way.TLS,)) for mode in STRONG),
        # The settings refuse these; where SET on the console has made them, nothing goes out in the clear.
        ("prefer", "direct", (Way.TLS,)),
        ("allow", "direct", (Way.TLS,)),
        ("disable", "direct", (Way.PLAIN,)),
    ],
)
def test_the_order_of_ways_is_libpqs(mode: str, negotiation: str, expected: tuple[Way, ...]) -> None:
    values = {"server_tls_sslmode": mode, "server_tls_sslnegotiation": negotiation}
    assert ways(server_tls(Settings.model_validate(values), DatabaseSettings())) == expected


@pytest.mark.both_loops
@pytest.mark.parametrize("mode", [*WEAK, *STRONG])
async def test_a_server_with_tls_is_reached_in_every_mode(mode: str, pki: Pki) -> None:
    async with Rig(database=trusting(pki, mode)) as rig:
        secure(rig, pki)
        server = await opened(rig, pool_of(rig))
        encrypted = mode not in ("disable", "allow")
        assert (server.connection.tls is not None) is encrypted
        assert [bool(each.tls) for each in rig.fake.conversations] == [encrypted]
        assert rig.fake.requests == encrypted
        peer = await rig.client()
        assert m.rows(await peer.ask("x" * 100_000)) == [["x" * 100_000]]


@pytest.mark.parametrize("mode", WEAK)
async def test_a_server_without_tls_is_reached_in_the_clear_where_that_is_allowed(mode: str) -> None:
    async with Rig(database={"sslmode": mode}) as rig:
        server = await opened(rig, pool_of(rig))
        assert server.connection.tls is None
        assert rig.fake.logins() == 1, "the answer N costs no connection"


@pytest.mark.parametrize("mode", STRONG)
async def test_a_server_without_tls_is_refused_where_it_is_required(mode: str, pki: Pki) -> None:
    async with Rig(database=trusting(pki, mode), server_login_retry=30) as rig:
        error = await login_refused(rig)
        assert (error["C"], error["M"]) == ("08006", "server refused SSL")
        again = await login_refused(rig)
        assert again["M"] == (
            "server login has been failing, cached error: server refused SSL (server_login_retry)"
        )
        assert (rig.fake.requests, rig.fake.logins()) == (1, 0)


@pytest.mark.parametrize("mode", ["prefer", *STRONG])
@pytest.mark.parametrize("rest", [b"x", INJECTED, m.authentication(0) + m.ready_for_query()])
@pytest.mark.parametrize("answer", [b"S", b"N"])
async def test_what_comes_behind_the_answer_is_not_taken(
    mode: str, rest: bytes, answer: bytes, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """CVE-2021-23222, CVE-2021-43767: libpq and Odyssey took it for what the server says inside TLS."""
    async with Rig(database=trusting(pki, mode), server_login_retry=30) as rig:
        rig.fake.answer = answer + rest
        error = await login_refused(rig)
        assert (error["C"], error["M"]) == ("08P01", "received unencrypted data after SSL response")
        assert (rig.fake.requests, rig.fake.logins()) == (1, 0)
    assert "injected" not in caplog.text


async def test_what_comes_between_the_answer_and_the_handshake_is_not_taken(pki: Pki) -> None:
    """In a packet of its own: OpenSSL takes it for a broken handshake."""
    async with Rig(database=trusting(pki, "require"), server_login_retry=30) as rig:
        rig.fake.answer = b"S"
        pool = pool_of(rig)
        server = dial(rig, pool)
        await eventually(lambda: server.connection.tls is not None)
        rig.fake.inject(INJECTED)
        await gone(rig, pool)
        assert pool.refusal is not None
        assert pool.refusal.message.startswith("TLS handshake error: ")
        assert rig.fake.logins() == 0


@pytest.mark.parametrize("mode", ["prefer", *STRONG])
async def test_an_error_before_tls_is_shown_to_nobody(
    mode: str, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    """CVE-2024-10977: libpq kept the text of whoever sat in the middle, and showed it as the server's."""
    async with Rig(database=trusting(pki, mode)) as rig:
        rig.fake.answer = INJECTED + b"x" * 1_000_000
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert pool.hosts.failing(pool.settings), "it is in trouble, and may be well again soon"
        assert "server sent an error response during SSL exchange" in pool.hosts.error(pool.settings)
        rig.fake.answer = b"S"
        secure(rig, pki)
        await rig.client()
    assert "injected" not in caplog.text
    assert rig.fake.plain() == 0


@pytest.mark.parametrize("answer", [b"X", b"R\0\0\0\x08\0\0\0\0", b"\x16\x03\x01", b"\0"])
async def test_a_strange_answer_is_a_refusal(answer: bytes) -> None:
    async with Rig(server_login_retry=30) as rig:
        rig.fake.answer = answer
        error = await login_refused(rig)
        assert (error["C"], error["M"]) == ("08P01", "bad sslreq answer")
        assert rig.fake.requests == 1


@pytest.mark.parametrize("mode", ["prefer", *STRONG])
async def test_a_server_that_hangs_up_instead_of_answering_is_tried_again(mode: str, pki: Pki) -> None:
    async with Rig(database=trusting(pki, mode)) as rig:
        rig.fake.answer = b""
        rig.fake.hangs_up = True
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: rig.fake.requests >= 2)
        rig.fake.hangs_up = False
        secure(rig, pki)
        await peer.welcome()
        assert rig.fake.plain() == 0


@pytest.mark.both_loops
@pytest.mark.parametrize("answer", [b"", b"S"], ids=["no answer", "no handshake"])
async def test_a_server_that_stalls_is_given_up_after_server_connect_timeout(answer: bytes, pki: Pki) -> None:
    async with Rig(database=trusting(pki, "require"), server_connect_timeout=0.1) as rig:
        rig.fake.answer = answer
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert pool.hosts.error(pool.settings) == "connect timeout"
        assert pool.refused_until == 0


async def test_allow_begins_in_the_clear_and_encrypts_where_that_is_refused(pki: Pki) -> None:
    async with Rig(only_if(encrypted=True), database=trusting(pki, "allow")) as rig:
        secure(rig, pki)
        server = await opened(rig, pool_of(rig))
        assert server.connection.tls is not None
        assert [bool(each.tls) for each in rig.fake.conversations] == [False, True]


async def test_allow_tells_the_first_refusal_where_there_is_no_tls() -> None:
    async with Rig(only_if(encrypted=True), database={"sslmode": "allow"}) as rig:
        error = await login_refused(rig)
        assert (error["C"], error["M"]) == ("28000", "no entry, encrypted: False")
        assert (rig.fake.logins(), rig.fake.requests) == (1, 1)


async def test_prefer_goes_on_in_the_clear_where_a_login_over_tls_is_refused(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with Rig(only_if(encrypted=False), database=trusting(pki, "prefer")) as rig:
        secure(rig, pki)
        server = await opened(rig, pool_of(rig))
        assert server.connection.tls is None
        assert server.encryption is None, "its cancel requests go in the clear, too"
        (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert said.endswith("login failed, trying it without TLS: no entry, encrypted: True")
        assert [bool(each.tls) for each in rig.fake.conversations] == [True, False]


@pytest.mark.parametrize("mode", STRONG)
async def test_who_insists_on_tls_never_goes_on_in_the_clear(mode: str, pki: Pki) -> None:
    async with Rig(only_if(encrypted=False), database=trusting(pki, mode)) as rig:
        secure(rig, pki)
        error = await login_refused(rig)
        assert error["M"] == "no entry, encrypted: True"
        assert [bool(each.tls) for each in rig.fake.conversations] == [True]


async def test_prefer_goes_on_in_the_clear_where_the_handshake_fails(pki: Pki) -> None:
    database = trusting(pki, "prefer", ssl_max_protocol_version="TLSv1.2")
    async with Rig(database=database) as rig:
        secure(rig, pki)
        assert rig.fake.context is not None
        rig.fake.context.minimum_version = rig.fake.context.maximum_version
        server = await opened(rig, pool_of(rig))
        assert server.connection.tls is None
        assert rig.fake.failures == ["UNSUPPORTED_PROTOCOL"]


@pytest.mark.parametrize(
    ("encrypted", "plain", "told"),
    [
        ("28P01", "28000", "28P01"),
        ("28000", "28P01", "28P01"),
        ("28000", "28000", "28000"),
        ("3D000", "28P01", "3D000"),
    ],
)
async def test_of_two_refusals_the_more_telling_one_is_told(
    encrypted: str, plain: str, told: str, pki: Pki
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.refuse(encrypted if conversation.tls else plain, "no")

    async with Rig(script, database=trusting(pki, "prefer"), server_login_retry=30) as rig:
        secure(rig, pki)
        assert (await login_refused(rig))["C"] == told
        assert rig.fake.logins() == 2


@pytest.mark.parametrize("mode", ["allow", "prefer"])
@pytest.mark.parametrize("code", ["57P03", "53300"])
async def test_a_server_that_is_not_ready_or_full_is_not_asked_the_other_way(
    mode: str, code: str, pki: Pki
) -> None:
    def script(conversation: Conversation) -> None:
        conversation.refuse(code, "not now")

    async with Rig(script, database=trusting(pki, mode)) as rig:
        secure(rig, pki)
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert [bool(each.tls) for each in rig.fake.conversations] == [mode == "prefer"]


async def test_the_first_way_is_left_before_the_second_is_gone(pki: Pki) -> None:
    """PostgreSQL never has two connections for one server of ours."""
    left: list[bool] = []

    def script(conversation: Conversation) -> None:
        if conversation.tls:
            conversation.refuse("28000", "not encrypted, please")
            conversation.socket.settimeout(5)
            left.append(rig.fake.logins() == 1 and conversation.hears_the_end())
        else:
            left.append(len(left) == 1)
            conversation.welcome()
            conversation.serve()

    async with Rig(script, database=trusting(pki, "prefer")) as rig:
        secure(rig, pki)
        await opened(rig, pool_of(rig))
        assert left == [True, True]


@pytest.mark.parametrize("mode", ["prefer", *STRONG])
async def test_a_unix_socket_is_never_encrypted(mode: str, pki: Pki) -> None:
    seen: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(100))
        writer.write(m.authentication(0) + m.ready_for_query())
        await reader.read()
        writer.close()

    async with Rig(database=trusting(pki, mode, host=str(pki.folder), port=5555)) as rig:
        listener = await asyncio.start_unix_server(take, str(pki.folder / ".s.PGSQL.5555"))
        await opened(rig, pool_of(rig))
        assert b"alice" in seen[0]
        listener.close()


async def test_direct_tls_begins_with_the_handshake(pki: Pki) -> None:
    async with Rig(database=trusting(pki, "verify-full", sslnegotiation="direct")) as rig:
        secure(rig, pki)
        server = await opened(rig, pool_of(rig))
        assert server.connection.tls is not None
        assert server.connection.tls.alpn == "postgresql"
        assert rig.fake.requests == 0


async def test_direct_tls_with_a_server_that_does_not_speak_its_alpn_is_refused(pki: Pki) -> None:
    database = trusting(pki, "require", sslnegotiation="direct")
    async with Rig(database=database, server_login_retry=30) as rig:
        secure(rig, pki, alpn=False)
        error = await login_refused(rig)
        assert error["C"] == "08006"
        assert error["M"].startswith(
            "TLS handshake error: direct SSL connection was established without ALPN"
        )
        assert rig.fake.logins() == 0


async def test_direct_tls_with_a_server_that_does_not_know_it_is_tried_again(pki: Pki) -> None:
    """An old PostgreSQL takes the handshake for a startup packet of an odd length, and hangs up."""
    database = trusting(pki, "require", sslnegotiation="direct")
    async with Rig(database=database) as rig:
        rig.fake.hangs_up = True
        pool = pool_of(rig)
        dial(rig, pool)
        await gone(rig, pool)
        assert pool.hosts.failing(pool.settings)


async def test_prefer_goes_on_in_the_clear_where_the_server_hangs_up_in_the_handshake() -> None:
    """As libpq: whatever is wrong with the handshake, the other way is tried."""

    async with Rig(database={"sslmode": "prefer"}) as rig:
        rig.fake.answer = b"S"
        pool = pool_of(rig)
        server = dial(rig, pool)
        await eventually(lambda: server.connection.tls is not None)
        rig.fake.answer = b"N"
        rig.fake.hang_up()
        await eventually(lambda: server.state == states.IDLE)
        assert rig.fake.plain() == 1


async def test_a_server_closed_by_an_order_in_the_handshake_is_gone_at_once(pki: Pki) -> None:
    async with Rig(database=trusting(pki, "require")) as rig:
        rig.fake.answer = b"S"
        pool = pool_of(rig)
        server = dial(rig, pool)
        await eventually(lambda: server.connection.tls is not None)
        server.close(ServerClosed.KILLED)
        rig.fake.hang_up()
        await gone(rig, pool)
        assert rig.worker.manager.ledger.of_pool(pool.key) == 0


async def test_a_server_that_never_stops_talking_before_tls_costs_no_memory() -> None:
    async with Rig(server_close_timeout=0.3) as rig:
        rig.fake.answer = b"E" + b"x" * 20_000_000
        pool = pool_of(rig)
        tracemalloc.start()
        try:
            dial(rig, pool)
            await eventually(lambda: pool.hosts.failing(pool.settings))
            await gone(rig, pool)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4_000_000
