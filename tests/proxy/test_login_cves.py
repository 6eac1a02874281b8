"""Faults of other poolers, drivers and servers in logging in, each as what must not happen here.

The numbers are those of the public registers; what went wrong there stands beside them. What concerns TLS is
held in test_encryption and test_entry, what concerns auth_query in test_auth_query.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping

import pytest

from protocol import tags
from protocol.client_login import client_login
from protocol.conversation import AuthMethod, LoginFailed
from protocol.errors import MalformedMessage
from protocol.frontend import PasswordMessage, SASLInitialResponse, SASLResponse
from protocol.scram import MAX_ITERATIONS, ScramClient, ScramKeys
from protocol.secret import PlainSecret, md5_secret
from protocol.startup import encode_startup
from tests.protocol.talk import Talk
from tests.proxy.dialling import dial, gone, pool_of
from tests.support import messages as m
from tests.support.rig import Peer, Rig
from tests.support.scram import attributes, verifier
from tests.support.script import Conversation, Script

SECRET = "pa55word"
# The test's own clients derive their keys by it, too.
_PBKDF2 = hashlib.pbkdf2_hmac
SHA = b"SCRAM-SHA-256\0\0"


async def answer_scram(peer: Peer, password: str) -> None:
    """Answer the request for SCRAM that comes next, up to the proof."""
    scram = ScramClient()
    await peer.password()
    peer.send(SASLInitialResponse(b"SCRAM-SHA-256", scram.first()).encode())
    salt, iterations = scram.challenge((await peer.password()).body[4:])
    keys = ScramKeys.of(_PBKDF2("sha256", password.encode(), salt, iterations), salt, iterations)
    peer.send(SASLResponse(scram.final(keys)).encode())


async def is_alive(rig: Rig) -> None:
    """Somebody else is served."""
    peer = await rig.connect()
    peer.send(m.startup({"user": "alice", "database": "app"}))
    await answer_scram(peer, SECRET)
    await peer.welcome()
    assert (await peer.ask("select 1"))[-1].tag == b"Z"


def scram_rig(databases: Mapping[str, Mapping[str, object]] | None = None, **settings: str) -> Rig:
    secrets = {"alice": verifier(SECRET)}
    return Rig(auth_type="scram-sha-256", credentials=secrets, databases=databases, **settings)  # type: ignore[arg-type]


# Clients.


@pytest.mark.parametrize("name", ["d" * 64, "d" * 9000])
async def test_a_database_name_of_any_length_is_refused_and_no_more(name: str) -> None:
    """CVE-2012-4575: with auto-databases a long name ended the whole of PgBouncer."""
    async with scram_rig(databases={"*": {"host": "127.0.0.1"}}) as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": name}))
        assert (await peer.error())["M"] == "database name too long"
        await is_alive(rig)


async def test_a_password_before_the_startup_packet_ends_that_client_alone() -> None:
    """CVE-2015-4054: it was looked up for a user that there was not, and PgBouncer crashed."""
    async with scram_rig() as rig:
        peer = await rig.connect()
        peer.send(m.password(SECRET))
        assert await peer.rest() == b""
        await is_alive(rig)


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 0x80000000, 100])
async def test_a_sasl_length_that_lies_ends_that_client_alone(length: int) -> None:
    """CVE-2026-6664: an overflow of the length of the inner field crashed PgBouncer before the login."""
    async with scram_rig() as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await peer.password()
        peer.send(m.message(b"p", b"SCRAM-SHA-256\0" + length.to_bytes(4, "big") + b"n,,n=,r=abc"))
        assert (await peer.error())["C"] == "08P01"
        await is_alive(rig)


async def test_a_wrong_password_is_wrong_however_many_servers_are_open() -> None:
    """CVE-2025-46801: Pgpool-II compared the password of a client with itself where a server was cached."""
    async with scram_rig() as rig:
        await is_alive(rig)
        assert pool_of(rig).open
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await answer_scram(peer, "wrong")
        assert (await peer.error())["M"] == "SASL authentication failed"


async def test_the_console_asks_for_the_password_as_every_database_does() -> None:
    """PgDog 1053: with passthrough of passwords that of the admin was not checked."""
    async with scram_rig(admin_users="alice") as rig:
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "pgbouncer"}))
        await answer_scram(peer, "wrong")
        assert (await peer.error())["M"] == "SASL authentication failed"


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (AuthMethod.PLAIN, PasswordMessage(b"wrong")),
        (AuthMethod.MD5, PasswordMessage(b"md5" + b"0" * 32)),
    ],
)
@pytest.mark.parametrize("secret", [PlainSecret(b"sesame"), md5_secret(b"sesame", b"alice")])
def test_secrets_are_compared_in_constant_time(
    method: AuthMethod,
    answer: PasswordMessage,
    secret: PlainSecret,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CVE-2026-6478: PostgreSQL's comparison of MD5 hashes told how far they were equal."""
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    talk = Talk(client_login(method, b"alice", [secret], mock_key=b"k"))
    with pytest.raises(LoginFailed):
        talk.hear(answer)
    assert len(compared) == 1


async def test_requests_for_encryption_in_turns_come_to_an_end() -> None:
    """CVE-2026-6479: PostgreSQL went one call deeper for each, until it crashed, before any login."""
    async with scram_rig() as rig:
        peer = await rig.connect()
        for request in (m.gssenc_request(), m.ssl_request()):
            peer.send(request)
            assert await peer.byte() == b"N"
        peer.send(m.gssenc_request())
        assert await peer.rest() == b""
        await is_alive(rig)


# Servers.


def asking_scram(challenge: Callable[[str], bytes]) -> Script:
    """A server whose server-first-message is made of the client's nonce."""

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(10, SHA))
        first = conversation.expect(b"p").body
        nonce = attributes(first[first.index(b"n=") :])["r"]
        conversation.send(m.authentication(11, challenge(nonce)))
        conversation.read()
        raise AssertionError("it was answered")

    return script


async def refused(script: Script, text: str, **database: object) -> None:
    """The login at such a server fails with these words, in no time, and without a word of the password."""
    async with Rig(script, database={"password": SECRET, **database}, server_close_timeout=0.2) as rig:
        pool = pool_of(rig)
        loop = asyncio.get_running_loop()
        began = loop.time()
        dial(rig, pool)
        await gone(rig, pool)
        assert loop.time() - began < 5
        assert text in str(pool.refusal)
        for conversation in rig.fake.conversations:
            assert SECRET.encode() not in b"".join(message.body for message in conversation.seen)


async def test_a_nonce_of_sixty_kilobytes_is_refused() -> None:
    """CVE-2026-6665: it overflowed the buffer of PgBouncer's answer."""
    await refused(asking_scram(lambda nonce: f"r={nonce}{'x' * 60_000},s=c2FsdA==,i=1".encode()), "nonce")


@pytest.mark.parametrize("count", [0, -1, MAX_ITERATIONS + 1, 2147483647, 99999999999])
async def test_a_count_of_iterations_that_cannot_be_is_refused(count: int) -> None:
    """CVE-2026-42198: a hostile server made pgjdbc hash for minutes, past every timeout."""
    await refused(asking_scram(lambda nonce: f"r={nonce}x,s=c2FsdA==,i={count}".encode()), "iteration")


async def test_keys_are_never_derived_on_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2026-42198 once more: as many iterations as are allowed hold up nobody else."""
    threads: list[int] = []
    derive = hashlib.pbkdf2_hmac

    def noted(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        threads.append(threading.get_ident())
        return derive(name, password, salt, iterations)

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(10, SHA))
        first = conversation.expect(b"p").body
        nonce = attributes(first[first.index(b"n=") :])["r"]
        challenge = f"r={nonce}x,s=c2FsdA==,i={MAX_ITERATIONS}".encode()
        conversation.send(m.authentication(11, challenge))
        conversation.expect(b"p")
        conversation.refuse("28P01", "no")

    monkeypatch.setattr("hashlib.pbkdf2_hmac", noted)
    async with Rig(script, auth_type="scram-sha-256", database={"password": SECRET}) as rig:
        dial(rig, pool_of(rig))
        await gone(rig, pool_of(rig))
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await answer_scram(peer, "wrong")
        await peer.error()
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_an_error_without_sqlstate_is_an_error() -> None:
    """CVE-2026-6666: PgBouncer looked at the field that was not there, and crashed."""

    def script(conversation: Conversation) -> None:
        conversation.send(m.message(b"E", b"SFATAL\0Mbare\0\0"))

    await refused(script, "bare")


@pytest.mark.parametrize(("kind", "data"), [(3, b""), (5, b"salt"), (0, b""), (10, SHA)])
async def test_required_channel_binding_is_not_talked_down(kind: int, data: bytes) -> None:
    """CVE-2025-49146: pgjdbc took any method although channelBinding=require."""

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(kind, data))
        conversation.read()
        raise AssertionError("it was answered")

    await refused(
        script,
        "channel binding is required",
        channel_binding="require",
        require_auth="scram-sha-256, md5, password, none",
    )


async def test_a_server_that_asks_for_ever_is_left() -> None:
    """No number: notices and parameters without end keep a login busy in every driver."""

    def script(conversation: Conversation) -> None:
        notice = m.error_response("00000", "again", severity="NOTICE", tag=b"N")
        while True:
            conversation.send(notice * 100)

    await refused(script, "too many messages")


async def test_a_signature_that_proves_nothing_ends_the_login() -> None:
    """A server, or whoever stands in its place, has to know the password, too (RFC 5802, 5.1)."""

    def script(conversation: Conversation) -> None:
        conversation.send(m.authentication(10, SHA))
        first = conversation.expect(b"p").body
        nonce = attributes(first[first.index(b"n=") :])["r"]
        conversation.send(m.authentication(11, f"r={nonce}x,s=c2FsdA==,i=1".encode()))
        conversation.expect(b"p")
        conversation.send(m.authentication(12, b"v=" + b"A" * 43 + b"="))
        conversation.welcome()
        conversation.serve()

    await refused(script, "wrong SCRAM signature")


@pytest.mark.parametrize(("name", "value"), [(b"user", b"x\0user\0admin"), (b"a\0b", b"c")])
def test_no_string_with_a_nul_gets_into_a_startup_packet(name: bytes, value: bytes) -> None:
    """pgx, 2026: a NUL in a value added parameters of somebody's choice."""
    with pytest.raises(MalformedMessage):
        encode_startup({name: value}, tags.PROTOCOL_3_0)


async def test_passwords_are_not_in_what_is_logged_of_any_of_this(caplog: pytest.LogCaptureFixture) -> None:
    """CVE-2023-22332 and its kin: secrets where people look."""
    caplog.set_level(logging.DEBUG)
    async with scram_rig() as rig:
        await is_alive(rig)
        peer = await rig.connect()
        peer.send(m.startup({"user": "alice", "database": "app"}))
        await answer_scram(peer, "typed-by-mistake")
        await peer.error()
    for secret in (SECRET, "typed-by-mistake", *verifier(SECRET).split("$")[2].split(":")):
        assert secret not in caplog.text
