"""Malformed and odd packets at every moment of a connection: one client's fault hurts nobody else.

Before the first valid startup packet the pooler hangs up without a word; after
it the client gets one FATAL with SQLSTATE 08P01. The numbers in brackets are
those of tests/bad_input.md.
"""

import os
import struct

import pytest

from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler, Sections
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import APP, SESSION_ONE, build, howdah_only
from tests.support.wire import Raw

pytestmark = pytest.mark.usefixtures("alive")

PROMPTLY = 1.0
"""Seconds; generous against a busy machine, the pooler itself needs a few milliseconds."""

MIB = 1024 * 1024


def the_only_error(got: list[m.Message]) -> m.Fields:
    """The fields of the one ErrorResponse, which must be the last message."""
    assert m.tags(got).count("E") == 1, got
    assert got[-1].tag == b"E", got
    return m.fields_of(got[-1].body)


def refusal(client: Raw) -> m.Fields:
    """The one FATAL after which the pooler hangs up."""
    fields = the_only_error(client.until_closed(within=PROMPTLY))
    assert fields["S"] == "FATAL", fields
    return fields


# --- before the startup packet -----------------------------------------------------------------


def test_connect_and_close_leaves_no_warning_in_the_log(pooler: Pooler) -> None:
    """[O01]"""
    with pooler.log_contains("WARNING|ERROR", times=0):
        pooler.socket().close()
        pooler.raw().quit()


def test_three_length_bytes_and_a_close_are_harmless(pooler: Pooler) -> None:
    """[O02]"""
    left = r"\(nodb\)/\(nouser\)@127\.0\.0\.1:\d+ closing because: client unexpected eof"
    with pooler.log_contains(left, times=1), pooler.socket() as client:
        client.send(b"\0\0\0")
        client.half_close()
        assert client.closed_within(PROMPTLY)


@howdah_only("PgBouncer says why it hangs up")
@pytest.mark.parametrize("length", [7, 4, 0], ids=str)
def test_a_startup_length_below_eight_is_hung_up_on(pooler: Pooler, length: int) -> None:
    """[O03]"""
    with pooler.socket() as client:
        client.send(struct.pack("!I", length) + b"\0\0\0\0")
        assert client.closed_within(PROMPTLY)


@howdah_only("PgBouncer takes up to 64 KiB")
def test_a_startup_packet_above_ten_thousand_bytes_is_hung_up_on(pooler: Pooler) -> None:
    """[O04]"""
    parameters = {"user": pooler.user, "database": APP}
    short = len(m.startup({**parameters, "application_name": ""}))
    with pooler.socket() as client:
        client.send(m.startup({**parameters, "application_name": "x" * (10_001 - short)}))
        assert client.closed_within(PROMPTLY)
    with pooler.socket() as client:
        client.send(m.startup({**parameters, "application_name": "x" * (10_000 - short)}))
        client.finish_login()


@howdah_only("PgBouncer says why it hangs up")
def test_a_huge_startup_length_reserves_no_memory(pooler: Pooler) -> None:
    """[O05]"""
    before = pooler.rss()
    for length in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        with pooler.socket() as client:
            client.send(struct.pack("!I", length))
            assert client.closed_within(PROMPTLY)
    assert pooler.rss() - before < MIB


@howdah_only("PgBouncer waits for the rest")
def test_a_web_browser_is_hung_up_on_and_its_bytes_do_not_break_the_log(pooler: Pooler) -> None:
    """[O06]"""
    mark = pooler.log_mark()
    with pooler.socket() as client:
        client.send(b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.closed_within(PROMPTLY)
    assert "\x1b" not in pooler.log(mark)


def test_protocol_two_is_refused_with_a_reason(pooler: Pooler) -> None:
    """[O07]"""
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user}, version=m.PROTOCOL_2_0))
        fields = refusal(client)
    assert fields["C"] in ("0A000", "08P01")
    assert "old V2 protocol not supported" in fields["M"]


def test_no_user_name_is_refused(pooler: Pooler) -> None:
    """[O09]"""
    with pooler.socket() as client:
        client.send(m.startup({"database": APP}))
        fields = refusal(client)
    assert "no username supplied" in fields["M"]
    assert fields["C"] in ("28000", "08P01")


@howdah_only("PgBouncer before 1.25 has another text")
def test_a_missing_last_null_is_refused(pooler: Pooler) -> None:
    """[O10]"""
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": APP}, terminator=b""))
        fields = refusal(client)
    assert fields["C"] == "08P01"
    assert fields["M"] == "invalid startup packet layout: expected terminator as last byte"


def test_an_unknown_startup_parameter_is_named(pooler: Pooler) -> None:
    """[O11]"""
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": APP, "foo": "bar"}))
        fields = refusal(client)
    assert fields["M"] == "unsupported startup parameter: foo"


@howdah_only("PgBouncer 1.18 takes no options at all")
def test_an_unknown_option_is_named(pooler: Pooler) -> None:
    """[O12]"""
    for options, text in [
        ("-c geqo=off", "unsupported startup parameter in options: geqo"),
        ("-z", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"),
    ]:
        with pooler.socket() as client:
            client.send(m.startup({"user": pooler.user, "database": APP, "options": options}))
            assert refusal(client)["M"] == text


@howdah_only("PgBouncer says something")
def test_a_password_as_the_first_bytes_is_hung_up_on(pooler: Pooler) -> None:
    """[O14]"""
    with pooler.socket() as client:
        client.send(m.password("secret"))
        assert client.closed_within(PROMPTLY)


def test_a_gssenc_request_is_declined_and_the_login_goes_on(pooler: Pooler) -> None:
    """[O25]"""
    with pooler.socket() as client:
        client.send(m.gssenc_request())
        assert client.take(1) == b"N"
        client.login(pooler.user, APP)
        assert client.value("select 1") == "1"


@howdah_only("with PgBouncer any number of requests may be made")
def test_requests_for_encryption_are_answered_once_each(pooler: Pooler) -> None:
    with pooler.socket() as client:
        for request in (m.gssenc_request(), m.ssl_request()):
            client.send(request)
            assert client.take(1) == b"N"
        client.send(m.gssenc_request())
        assert client.closed_within(PROMPTLY)


@howdah_only("SSLRequest with more in the same segment passes PgBouncer without TLS")
def test_bytes_behind_a_request_for_encryption_are_never_read_as_a_login(pooler: Pooler) -> None:
    with pooler.socket() as client:
        startup = m.startup({"user": pooler.user, "database": APP})
        client.send(m.ssl_request() + startup + m.query("select 1"))
        fields = refusal(client)
    assert fields["C"] == "08P01"
    assert fields["M"] == "received unencrypted data after SSL request"


def test_a_cancel_request_with_an_unknown_key_does_nothing(pooler: Pooler) -> None:
    """[O26]"""
    with pooler.socket() as client:
        client.send(m.cancel_request(12345, b"\1\2\3\4"))
        assert client.closed_within(PROMPTLY)


@pytest.mark.parametrize("size", [12, 20, 300])
def test_a_cancel_request_of_another_size_does_nothing(pooler: Pooler, size: int) -> None:
    """[O27]"""
    with pooler.raw() as victim, pooler.socket() as client:
        key = victim.greeting.secret.ljust(size, b"\0")[: size - 12]
        packet = m.cancel_request(victim.greeting.pid, key)
        assert len(packet) == size
        client.send(packet)
        assert client.closed_within(PROMPTLY)
        assert victim.value("select 1") == "1"


# --- negotiation -----------------------------------------------------------------------------------


@howdah_only("PgBouncer speaks 3.0 only")
def test_a_newer_protocol_is_negotiated_down_exactly_once_even_if_the_login_has_to_wait() -> None:
    """[O08]"""

    def slow(conversation: Conversation) -> None:
        wait_until(lambda: bool(released), 10, "released by the test")
        conversation.welcome()
        conversation.serve()

    released: list[bool] = []
    with FakeServer(slow) as fake:
        entries: Sections = {"fake": {"host": fake.host, "port": fake.port, "dbname": "x"}}
        with build(entries, user="u") as pooler, pooler.socket() as client:
            client.send(m.startup({"user": "u", "database": "fake", "_pq_.x": "1"}, version=0x3270F))
            wait_until(lambda: fake.logins() == 1, 5, "the pooler logs in")
            released.append(True)
            got = client.until()
    (negotiation,) = [message for message in got if message.tag == b"v"]
    assert negotiation.body == m.int32(m.PROTOCOL_3_2) + m.int32(1) + b"_pq_.x\0"


@howdah_only("PgBouncer speaks 3.0 only")
def test_protocol_three_point_two_gets_a_cancel_key_of_32_bytes(pooler: Pooler) -> None:
    with pooler.raw(version=m.PROTOCOL_3_2) as client:
        assert len(client.greeting.secret) == 32
        assert client.value("select 1") == "1"
    with pooler.raw() as client:
        assert len(client.greeting.secret) == 4


# --- after the login -------------------------------------------------------------------------------


def test_a_second_startup_packet_is_a_protocol_violation(pooler: Pooler) -> None:
    """[O13]"""
    with pooler.raw() as client:
        client.send(m.startup({"user": pooler.user, "database": APP}))
        assert refusal(client)["C"] == "08P01"


@pytest.mark.parametrize("tag", [b"\0", b"~", b"T", b"R"], ids=repr)
def test_a_type_no_client_may_send_is_a_protocol_violation(pooler: Pooler, tag: bytes) -> None:
    """[O28]"""
    with pooler.raw() as client:
        client.send(m.message(tag, b"\0" * 8))
        assert refusal(client)["C"] == "08P01"


@pytest.mark.parametrize("tag", [b"\0", b"~", b"T", b"R"], ids=repr)
def test_such_a_type_inside_a_transaction_rolls_it_back(pooler: Pooler, server: Server, tag: bytes) -> None:
    with pooler.raw() as client:
        client.rows("begin")
        client.rows("select pg_advisory_xact_lock(4711)")
        client.send(m.message(tag, b"\0" * 8))
        assert refusal(client)["C"] == "08P01"
    wait_until(
        lambda: server.value("select count(*) from pg_locks where locktype = 'advisory'") == 0, 2, "unlocked"
    )


@pytest.mark.parametrize("length", [3, 0, -1], ids=str)
def test_a_query_with_an_impossible_length_is_a_protocol_violation(pooler: Pooler, length: int) -> None:
    """[O29]"""
    with pooler.raw() as client:
        client.send(m.message_claiming(b"Q", length, b"select 1\0"))
        assert refusal(client)["C"] == "08P01"


@howdah_only("PgBouncer's max_packet_size allows it")
def test_a_query_of_two_gibibytes_is_refused_at_its_head(pooler: Pooler) -> None:
    """[O30]"""
    with pooler.raw() as client:
        before = pooler.rss()
        client.send(m.message_claiming(b"Q", 0x7FFFFFFE, b"select"))
        assert refusal(client)["C"] in ("08P01", "54000")
        assert pooler.rss() - before < MIB


def test_a_query_without_a_null_is_answered_by_postgresql(pooler: Pooler) -> None:
    """[O31]"""
    with pooler.raw() as client:
        got = client.ask(m.message(b"Q", b"select 1"))
        assert m.tags(got) == "EZ"
        assert m.errors(got)[0]["C"] == "08P01"
        assert client.value("select 2") == "2"


@howdah_only("PgBouncer's max_packet_size allows more")
def test_every_type_byte_with_every_absurd_length_ends_only_its_own_connection(pooler: Pooler) -> None:
    before = pooler.rss()
    for tag in range(256):
        for length in (0, 3, 0x7FFFFFFF, 0xFFFFFFFF):
            with pooler.raw() as client:
                client.send(m.message_claiming(bytes([tag]), length))
                assert m.errors(client.until_closed(within=5))[-1]["S"] == "FATAL", (tag, length)
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


@pytest.mark.parametrize("database", [SESSION_ONE, APP])
def test_a_bind_with_too_many_parameters_is_an_error_until_sync(pooler: Pooler, database: str) -> None:
    """[O32]"""
    statement = "s" if database == SESSION_ONE else ""
    with pooler.raw(database) as client:
        parsed = m.parse(statement, "select $1::text")
        got = client.ask(parsed, m.bind("", statement, ["a", "b"]), m.execute(), m.sync())
        assert m.tags(got) == "1EZ"
        fields = m.errors(got)[0]
        assert fields["C"] == "08P01"
        assert "bind message supplies 2 parameters" in fields["M"]
        assert client.value("select 1") == "1"


def test_executing_an_unknown_portal_is_an_error_until_sync(pooler: Pooler) -> None:
    """[O33]"""
    with pooler.raw() as client:
        got = client.ask(m.execute("nowhere"), m.sync())
        assert m.tags(got) == "EZ"
        assert m.errors(got)[0]["C"] == "34000"
        assert client.value("select 1") == "1"


def test_closing_what_does_not_exist_is_no_error(pooler: Pooler) -> None:
    """[O36]"""
    with pooler.raw(SESSION_ONE) as client:
        got = client.ask(m.close(b"S", "nothing"), m.close(b"P", "nowhere"), m.sync())
        assert m.tags(got) == "33Z"
        assert client.value("select 1") == "1"


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
