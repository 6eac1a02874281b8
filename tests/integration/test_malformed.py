"""Malformed and odd packets at every moment of a connection: one client's fault hurts nobody else.

Before the first valid startup packet the pooler hangs up without a word; after
it the client gets one FATAL with SQLSTATE 08P01.
"""

import os

import pytest

from tests.conformance.expect import MIB, PROMPTLY, refusal
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import howdah_only

pytestmark = pytest.mark.usefixtures("alive")


# --- before the startup packet -----------------------------------------------------------------


@howdah_only("with PgBouncer any number of requests may be made")
def test_requests_for_encryption_are_answered_once_each(pooler: Pooler) -> None:
    with pooler.socket() as client:
        for request in (m.gssenc_request(), m.ssl_request()):
            client.send(request)
            assert client.take(1) == b"N"
        client.send(m.gssenc_request())
        assert client.closed_within(PROMPTLY)


# --- negotiation -----------------------------------------------------------------------------------


@howdah_only("PgBouncer speaks 3.0 only")
def test_protocol_three_point_two_gets_a_cancel_key_of_32_bytes(pooler: Pooler) -> None:
    with pooler.raw(version=m.PROTOCOL_3_2) as client:
        assert len(client.greeting.secret) == 32
        assert client.value("select 1") == "1"
    with pooler.raw() as client:
        assert len(client.greeting.secret) == 4


# --- after the login -------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", [b"\0", b"~", b"T", b"R"], ids=repr)
def test_a_type_no_client_may_send_rolls_its_transaction_back(
    pooler: Pooler, server: Server, tag: bytes
) -> None:
    with pooler.raw() as client:
        client.rows("begin")
        client.rows("select pg_advisory_xact_lock(4711)")
        client.send(m.message(tag, b"\0" * 8))
        assert refusal(client)["C"] == "08P01"
    wait_until(
        lambda: server.value("select count(*) from pg_locks where locktype = 'advisory'") == 0, 2, "unlocked"
    )


@howdah_only("PgBouncer's max_packet_size allows more")
def test_every_type_byte_with_every_absurd_length_ends_only_its_own_connection(pooler: Pooler) -> None:
    before = pooler.rss()
    for tag in range(256):
        for length in (0, 3, 0x7FFFFFFF, 0xFFFFFFFF):
            with pooler.raw() as client:
                client.send(m.message_claiming(bytes([tag]), length))
                assert m.errors(client.until_closed())[-1]["S"] == "FATAL", (tag, length)
    assert pooler.rss() - before < 8 * MIB


def test_a_half_message_and_a_close_never_reach_the_server(pooler: Pooler, server: Server) -> None:
    server.sql("create table if not exists half(n int)")
    server.sql("grant all on half to public")
    with pooler.raw() as client:
        client.send(m.query("insert into half values (1)")[:-1])
        client.close()
    with pooler.raw() as client:
        assert client.value("select count(*) from half") == "0"


def test_random_bytes_after_the_login_hurt_nobody_else(pooler: Pooler) -> None:
    for _ in range(50):
        with pooler.raw() as client:
            client.send_quietly(os.urandom(200))
            client.reset()


# --- the extended protocol ------------------------------------------------------------------------


@howdah_only("PgBouncer forwards it")
@pytest.mark.parametrize(
    "body", [b"", b"\0", b"x", b"X\0"], ids=["empty", "no kind", "no null", "unknown kind"]
)
def test_a_malformed_describe_is_answered_and_hurts_nobody(pooler: Pooler, body: bytes) -> None:
    with pooler.raw() as client:
        client.send(m.message(b"D", body), m.sync())
        got = client.until(b"Z", b"E")
        assert m.errors(got)[0]["C"] == "08P01"


def test_sync_alone_and_flush_alone_are_answered_like_postgresql_does(pooler: Pooler) -> None:
    with pooler.raw() as client:
        assert m.tags(client.ask(m.sync())) == "Z"
        client.send(m.flush())
        assert client.silent_for(0.1)
        assert m.tags(client.ask(m.sync(), m.sync())) == "Z"
        assert m.tags(client.until()) == "Z"
        assert client.value("select 1") == "1"


def test_copy_messages_outside_copy_are_ignored(pooler: Pooler) -> None:
    with pooler.raw() as client:
        got = client.ask(m.copy_data(b"1\n"), m.copy_done(), m.copy_fail("no"), m.query("select 3"))
        assert m.rows(got) == [["3"]]


def test_terminate_ends_the_connection_without_a_word(pooler: Pooler) -> None:
    with pooler.raw() as client:
        client.send(m.terminate())
        assert client.closed_within(PROMPTLY)
