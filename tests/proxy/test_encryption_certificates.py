"""Who a server proves to be, and who we prove to be: certificates, names, and what is said when they fail."""

import logging
from collections.abc import Callable

import pytest

from config.types import SslMode
from proxy.pool import states
from proxy.pool.interfaces import Host
from proxy.reasons import ServerClosed
from tests.proxy.dialling import dial, gone, opened, pool_of
from tests.proxy.encrypted import STRONG, WEAK, login_refused, secure, trusting
from tests.support import messages as m
from tests.support.certificates import EXPIRED, NOT_YET, Authority, Files, Pair, Pki, self_signed
from tests.support.rig import Rig, eventually
from tests.support.script import FakeServer
from tests.support.terminator import server_context


def bad(pki: Pki, kind: str) -> Files:
    """A server's certificate that will not do."""
    pairs: dict[str, Callable[[], Pair]] = {
        "elsewhere": lambda: pki.authority.server("elsewhere.example"),
        "expired": lambda: pki.authority.server(valid=EXPIRED),
        "not yet": lambda: pki.authority.server(valid=NOT_YET),
        "unknown": lambda: Authority("nobody knows it").server(),
        "self-signed": self_signed,
        "for clients": lambda: pki.authority.client("localhost"),
    }
    return pki.write(f"bad {kind}", pairs[kind]())


BAD = {
    "elsewhere": "IP address mismatch, certificate is not valid for '127.0.0.1'",
    "expired": "certificate has expired",
    "not yet": "certificate is not yet valid",
    "unknown": "unable to get local issuer certificate",
    "self-signed": "self-signed certificate",
    "for clients": "unsuitable certificate purpose",
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_certificate_is_refused_with_a_reason_and_once(
    kind: str, pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    async with Rig(database=trusting(pki, "verify-full"), server_login_retry=30) as rig:
        secure(rig, pki, bad(pki, kind))
        error = await login_refused(rig)
        reason = f"TLS handshake error: certificate verify failed: {BAD[kind]}"
        assert (error["S"], error["C"], error["M"]) == ("FATAL", "08006", reason)
        assert f"closing because: {reason}" in caplog.text
        again = await login_refused(rig)
        assert again["M"] == f"server login has been failing, cached error: {reason} (server_login_retry)"
        assert (rig.fake.requests, rig.fake.logins()) == (1, 0)
        assert rig.worker.dialler.closed_servers[ServerClosed.LOGIN_FAILED] == 1
        assert not rig.worker.dialler.violations, "it broke no protocol"


@pytest.mark.parametrize("kind", ["elsewhere", "expired", "unknown", "self-signed"])
@pytest.mark.parametrize("mode", [*WEAK, *STRONG])
async def test_only_who_verifies_looks_at_the_certificate(mode: str, kind: str, pki: Pki) -> None:
    async with Rig(database=trusting(pki, mode)) as rig:
        secure(rig, pki, bad(pki, kind))
        pool = pool_of(rig)
        dial(rig, pool)
        if SslMode(mode).verifies and (kind, mode) != ("elsewhere", "verify-ca"):
            await gone(rig, pool)
        else:
            await eventually(lambda: pool.servers[states.IDLE])


async def test_after_server_login_retry_a_mended_certificate_is_found_good(pki: Pki) -> None:
    async with Rig(database=trusting(pki, "verify-full"), server_login_retry=30) as rig:
        secure(rig, pki, bad(pki, "expired"))
        await login_refused(rig)
        secure(rig, pki)
        pool = pool_of(rig)
        assert pool.hosts.choose(pool.settings, rig.worker.clock()) is None
        rig.worker.janitor.sweep(pool.refused_until)
        assert pool.hosts.choose(pool.settings, pool.refused_until) is not None
        rig.worker.manager.apply(rig.worker.manager.settings)
        await rig.client()


@pytest.mark.parametrize("kind", ["ec", "rsa", "ed25519"])
async def test_every_kind_of_key_will_do(kind: str, pki: Pki) -> None:
    async with Rig(database=trusting(pki, "verify-full")) as rig:
        secure(rig, pki, pki.server(kind=kind))  # type: ignore[arg-type]
        server = await opened(rig, pool_of(rig))
        assert server.connection.tls is not None


async def test_a_chain_up_to_a_known_authority_will_do(pki: Pki) -> None:
    between = Authority("between", above=pki.authority)
    async with Rig(database=trusting(pki, "verify-full")) as rig:
        secure(rig, pki, pki.write("chain", between.server()))
        await opened(rig, pool_of(rig))


async def test_an_old_certificate_may_have_its_host_as_common_name(pki: Pki) -> None:
    files = pki.write("old", pki.authority.server(common_name="localhost"))
    async with Rig(database=trusting(pki, "verify-full", host="localhost")) as rig:
        secure(rig, pki, files)
        await opened(rig, pool_of(rig))


async def test_without_a_file_of_authorities_the_systems_are_asked(pki: Pki) -> None:
    async with Rig(database={"sslmode": "verify-ca"}) as rig:
        secure(rig, pki)
        assert "certificate verify failed" in (await login_refused(rig))["M"]


async def test_each_host_of_a_list_has_its_own_name_and_a_bad_one_is_left_out(pki: Pki) -> None:
    """Only `localhost` is in the certificate, and 127.0.0.1 leads to the same server."""
    database = trusting(pki, "verify-full", host="127.0.0.1, localhost")
    async with Rig(database=database, server_login_retry=30) as rig:
        secure(rig, pki, pki.server("localhost"))
        pool = pool_of(rig)
        wrong = dial(rig, pool)
        await gone(rig, pool)
        assert wrong.host.name == "127.0.0.1"
        assert pool.refused_until == 0, "another host may do"
        for _ in range(3):
            assert (await opened(rig, pool)).host.name == "localhost"
        assert rig.fake.requests == 4


async def test_where_no_host_of_a_list_will_do_clients_are_told(pki: Pki) -> None:
    database = trusting(pki, "verify-full", host="127.0.0.1, localhost")
    async with Rig(database=database, server_login_retry=30) as rig:
        secure(rig, pki, pki.server("elsewhere.example"))
        error = await login_refused(rig)
        assert "certificate is not valid for" in error["M"]
        assert rig.fake.requests == 2


async def test_a_host_is_left_out_only_by_those_who_do_not_trust_it(pki: Pki) -> None:
    async with Rig(database=trusting(pki, "verify-full")) as rig:
        secure(rig, pki, pki.server("elsewhere.example"))
        await login_refused(rig)
        manager = rig.worker.manager
        settings = pool_of(rig).settings
        assert manager.hosts.choose(settings, rig.worker.clock()) is None
        entry = rig.settings.databases["app"].model_copy(update={"sslmode": SslMode.REQUIRE})
        lenient = rig.settings.model_copy(update={"databases": {"app": entry}}).for_pool("app", "alice")
        assert manager.hosts.choose(lenient, rig.worker.clock()) == Host(rig.fake.host, rig.fake.port)


async def test_servers_may_ask_who_we_are(pki: Pki) -> None:
    mine = pki.client("the pooler")
    database = trusting(pki, "verify-full", sslcert=str(mine.certificate), sslkey=str(mine.key))
    async with Rig(database=database) as rig:
        secure(rig, pki)
        assert rig.fake.context is not None
        rig.fake.context.verify_mode = rig.fake.context.verify_mode.CERT_REQUIRED
        await opened(rig, pool_of(rig))
        assert rig.fake.conversations[0].shown == "the pooler"


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("mine", [None, "stranger"])
async def test_a_server_that_does_not_accept_who_we_are_is_not_asked_again(
    version: str, mine: str | None, pki: Pki
) -> None:
    """In TLS 1.3 it says so after our side of the handshake is over."""
    database = trusting(pki, "require", ssl_max_protocol_version=version)
    if mine is not None:
        files = pki.write(mine, Authority("nobody knows it").client(mine))
        database |= {"sslcert": str(files.certificate), "sslkey": str(files.key)}
    async with Rig(database=database, server_login_retry=30) as rig:
        secure(rig, pki)
        assert rig.fake.context is not None
        rig.fake.context.verify_mode = rig.fake.context.verify_mode.CERT_REQUIRED
        error = await login_refused(rig)
        assert error["C"] == "08006"
        assert error["M"].startswith("TLS handshake error: ")
        assert "alert" in error["M"]
        assert (rig.fake.requests, rig.fake.logins()) == (1, 0)
        assert not rig.worker.dialler.violations


async def test_no_key_is_ever_said(pki: Pki, caplog: pytest.LogCaptureFixture) -> None:
    mine = pki.client("secretive")
    caplog.set_level(logging.DEBUG)
    database = trusting(pki, "verify-full", sslcert=str(mine.certificate), sslkey=str(mine.key))
    async with Rig(database=database) as rig:
        secure(rig, pki, bad(pki, "expired"))
        told = str(await login_refused(rig))
    lines = mine.key.read_text().splitlines()[1:-1]
    assert not any(line in caplog.text + told for line in lines)


async def test_a_connection_to_a_server_is_logged_with_its_tls(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "howdah")
    async with Rig(database=trusting(pki, "require", ssl_max_protocol_version="TLSv1.2")) as rig:
        secure(rig, pki)
        await opened(rig, pool_of(rig))
        assert "SSL established: TLSv1.2/ECDHE-" in caplog.text
        assert "new connection to server (from 127.0.0.1:" in caplog.text
    async with Rig() as rig:
        caplog.clear()
        await opened(rig, pool_of(rig))
        assert "SSL" not in caplog.text


async def test_the_host_name_is_asked_for_and_an_address_is_not(pki: Pki) -> None:
    for host, asked in (("localhost", "localhost"), ("127.0.0.1", None)):
        async with Rig(database=trusting(pki, "verify-full", host=host)) as rig:
            secure(rig, pki)
            heard: list[str | None] = []
            assert rig.fake.context is not None
            rig.fake.context.sni_callback = lambda _, name, __, heard=heard: heard.append(name)
            await opened(rig, pool_of(rig))
            assert heard == [asked]


async def test_a_server_that_is_killed_in_the_handshake_is_tried_again(pki: Pki) -> None:
    async with Rig(database=trusting(pki, "require")) as rig:
        rig.fake.answer = b"S"
        pool = pool_of(rig)
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await eventually(lambda: rig.fake.requests == 1)
        where = rig.fake.port
        rig.fake.close()
        await eventually(lambda: pool.hosts.error(pool.settings))
        assert pool.hosts.error(pool.settings) == "connect failed (server closed the connection during login)"
        rig.fake = FakeServer(port=where)
        rig.fake.answer = b"S"
        rig.fake.context = server_context(pki.server())
        await peer.welcome()
        assert rig.fake.conversations[0].tls is not None
