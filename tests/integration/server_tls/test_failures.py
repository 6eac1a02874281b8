"""Servers with TLS that end, stall or lie: nobody waits for ever, and nothing is sent in the clear."""

import contextlib
import threading
from collections.abc import Iterator

import pytest

from tests.integration.conftest import FAKE, Launch
from tests.integration.server_tls.conftest import ENCRYPTED, trusting
from tests.support import messages as m
from tests.support.certificates import Pki
from tests.support.fault_proxy import End, FaultProxy, Way, wait_until
from tests.support.pooler import Pooler, Settings
from tests.support.postgres import APP_TRUST, PostgresServer
from tests.support.script import FakeServer
from tests.support.secure_postgres import secure_postgres
from tests.support.server import Server
from tests.support.standard import entry, howdah_only
from tests.support.terminator import server_context
from tests.support.wire import LoginRefused

pytestmark = howdah_only("has no TLS settings of a database")

HANDSHAKE = (1, 100, 700, 1000)
"""Bytes of a server's side of the handshake, behind which it may end."""


@pytest.fixture
def mortal(pki: Pki) -> Iterator[PostgresServer]:
    """A server with TLS that a test may stop and kill."""
    with secure_postgres(pki) as server:
        yield server


@pytest.fixture
def proxied(launch: Launch, secure: Server, pki: Pki) -> Iterator[tuple[Pooler, FaultProxy]]:
    """A pooler whose way to the server can be disturbed."""
    with FaultProxy((secure.host, secure.port)) as proxy:
        place: Settings = {"host": "localhost", "port": proxy.port, "dbname": secure.database}
        settings: Settings = {"server_connect_timeout": 1}
        yield launch({"app": {**place, **trusting(pki, "verify-full")}}, settings, user=APP_TRUST.name), proxy


def before(launch: Launch, fake: FakeServer, pki: Pki, mode: str, **settings: float) -> Pooler:
    place: Settings = {"host": fake.host, "port": fake.port}
    return launch({FAKE: {**place, **trusting(pki, mode)}}, settings, user="u")


def test_clients_outlive_a_restart_of_a_server_with_tls(
    launch: Launch, mortal: PostgresServer, pki: Pki
) -> None:
    server = Server(mortal, "postgres")
    pooler = launch({"app": entry(server, **trusting(pki, "verify-full"))}, user=APP_TRUST.name)
    with pooler.raw("app", timeout=60) as client:
        assert client.value(ENCRYPTED) == "TLSv1.3"
        for mode in ("fast", "immediate"):
            mortal.own.stop(mode)
            pooler.wait_for_pool("app", sv_idle=0)
            answers: list[object] = []
            asker = threading.Thread(target=lambda found=answers: found.append(client.value(ENCRYPTED)))
            asker.start()
            pooler.wait_for_log(r"connect failed \(")
            mortal.own.start()
            asker.join(60)
            assert answers == ["TLSv1.3"]


@pytest.mark.parametrize("at", HANDSHAKE)
@pytest.mark.parametrize("end", [End.RESET, End.HALF_CLOSE])
def test_a_server_that_ends_in_the_handshake_is_tried_again(
    proxied: tuple[Pooler, FaultProxy], at: int, end: End
) -> None:
    pooler, proxy = proxied
    proxy.end_at(Way.TO_CLIENT, at, end)
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": "app"}))
        pooler.wait_for_log(r"closing because: (connect failed|connect timeout)")
        proxy.heal()
        client.finish_login()
        assert client.value(ENCRYPTED) == "TLSv1.3"


@pytest.mark.parametrize("at", HANDSHAKE)
def test_a_server_that_stalls_in_the_handshake_is_given_up_in_time(
    proxied: tuple[Pooler, FaultProxy], at: int
) -> None:
    pooler, proxy = proxied
    proxy.stop_at(Way.TO_CLIENT, at)
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": "app"}))
        pooler.wait_for_log("closing because: connect timeout")
        proxy.heal()
        client.finish_login()
        assert client.value(ENCRYPTED) == "TLSv1.3"


def test_a_handshake_in_single_bytes_is_a_handshake(proxied: tuple[Pooler, FaultProxy]) -> None:
    pooler, proxy = proxied
    proxy.slice(1)
    with pooler.with_settings(server_connect_timeout=30), pooler.raw("app", timeout=30) as client:
        assert client.value(ENCRYPTED) == "TLSv1.3"
        assert client.value("select repeat('x', 3000)") == "x" * 3000


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
def test_an_injected_answer_is_obeyed_by_nobody_and_shown_to_nobody(
    launch: Launch, fake: FakeServer, pki: Pki, mode: str
) -> None:
    pooler = before(launch, fake, pki, mode)
    fake.answer = b"S" + m.error_response("28000", "injected words") + m.ready_for_query()
    with pytest.raises(LoginRefused, match="received unencrypted data after SSL response"):
        pooler.raw(FAKE)
    assert "injected" not in pooler.log()
    assert fake.logins() == 0


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
def test_an_error_before_tls_is_shown_to_nobody(
    launch: Launch, fake: FakeServer, pki: Pki, mode: str
) -> None:
    pooler = before(launch, fake, pki, mode, client_login_timeout=1)
    fake.answer = m.error_response("28000", "injected words")
    with pytest.raises(LoginRefused) as caught:
        pooler.raw(FAKE)
    assert "injected" not in pooler.log() + str(caught.value)
    pooler.wait_for_log("server sent an error response during SSL exchange")
    pooler.admin("SET client_login_timeout = 30")
    fake.answer = b"S"
    fake.context = server_context(pki.server())
    with pooler.raw(FAKE) as client:
        assert client.value("hello") == "hello"
    assert fake.plain() == 0


def test_nothing_of_a_client_or_a_key_goes_to_a_server_that_is_not_trusted(
    launch: Launch, fake: FakeServer, pki: Pki
) -> None:
    mine = pki.client("the pooler")
    place: Settings = {"host": fake.host, "port": fake.port, "user": "owner", "password": "marker-secret"}
    tls = trusting(pki, "verify-full", sslcert=str(mine.certificate), sslkey=str(mine.key))
    pooler = launch({FAKE: {**place, **tls}}, {"verbose": 3}, user="u")
    fake.answer = b"S"
    fake.context = server_context(pki.server("elsewhere.example"))
    with pytest.raises(LoginRefused, match=r"certificate is not valid for '127\.0\.0\.1'") as caught:
        pooler.raw(FAKE)
    assert fake.logins() == 0
    key = [line for line in mine.key.read_text().splitlines() if "KEY" not in line]
    shown = "\n".join(
        str(pooler.admin(f"SHOW {what}")) for what in ("CONFIG", "SERVERS", "DATABASES", "POOLS")
    )
    said = pooler.log() + str(caught.value) + shown
    assert not any(secret in said for secret in [*key, "marker-secret"])


def test_a_crowd_of_bad_handshakes_leaves_nothing_behind(launch: Launch, fake: FakeServer, pki: Pki) -> None:
    pooler = before(launch, fake, pki, "verify-full", server_login_retry=0, client_login_timeout=5)
    fake.answer = b"S"
    fake.context = server_context(pki.server("elsewhere.example"))

    def knock(times: int) -> None:
        for _ in range(times):
            with contextlib.suppress(LoginRefused), pooler.raw(FAKE):
                pass

    knock(50)
    memory, descriptors = pooler.rss(), pooler.fds()
    knock(500)
    wait_until(lambda: pooler.fds() <= descriptors, 10, "descriptors are closed")
    assert pooler.rss() - memory < 8 << 20
    wait_until(lambda: len(fake.failures) == fake.requests, 10, "the server has heard of each refusal")
    assert fake.requests == 550, "one attempt for each client"
