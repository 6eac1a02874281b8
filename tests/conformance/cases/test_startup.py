"""Odd and malformed packets before a connection is logged in: one client's fault hurts nobody else."""

import struct

import pytest

from tests.conformance import direct
from tests.conformance.expect import MIB, PROMPTLY, hung_up_on, refusal, wording
from tests.conformance.marks import pgbouncer_fails, pooler_only
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER
from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler, Sections
from tests.support.script import Conversation, FakeServer
from tests.support.server import Server
from tests.support.standard import entry
from tests.support.target import Target

NEWER = 0x3270F
"""Protocol 3.9999."""


@pytest.mark.case("O01")
def test_connect_and_close_leaves_no_warning_in_the_log(pooler: Pooler) -> None:
    with pooler.log_contains("WARNING|ERROR", times=0):
        pooler.socket().close()
        pooler.raw().quit()


@pytest.mark.case("O02")
@pgbouncer_fails("1.18 logs nothing")
def test_three_length_bytes_and_a_close_are_harmless(pooler: Pooler) -> None:
    left = r"\(nodb\)/\(nouser\)@127\.0\.0\.1:\d+ closing because: client unexpected eof"
    line = wording(pooler, left, postgresql="incomplete startup packet")
    with pooler.log_contains(line, times=1), pooler.socket() as client:
        client.send(b"\0\0\0")
        client.half_close()
        assert client.closed_within(PROMPTLY)


@pytest.mark.case("O03")
@pytest.mark.parametrize("length", [7, 4, 0], ids=str)
def test_a_startup_length_below_eight_is_hung_up_on(pooler: Pooler, length: int) -> None:
    with pooler.socket() as client:
        client.send(struct.pack("!I", length) + b"\0\0\0\0")
        hung_up_on(pooler, client)


@pytest.mark.case("O04")
@pgbouncer_fails("takes up to 64 KiB")
def test_a_startup_packet_above_ten_thousand_bytes_is_hung_up_on(pooler: Pooler) -> None:
    parameters = {"user": pooler.user, "database": pooler.database}
    short = len(m.startup({**parameters, "application_name": ""}))
    # PostgreSQL does not count the four bytes of the length itself.
    too_many = 10_005 if pooler.kind == direct.KIND else 10_001
    with pooler.socket() as client:
        client.send(m.startup({**parameters, "application_name": "x" * (too_many - short)}))
        hung_up_on(pooler, client)
    with pooler.socket() as client:
        client.send(m.startup({**parameters, "application_name": "x" * (10_000 - short)}))
        client.finish_login()


@pytest.mark.case("O05")
@pgbouncer_fails("waits for the rest")
def test_a_huge_startup_length_reserves_no_memory(pooler: Pooler) -> None:
    before = pooler.rss()
    for length in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        with pooler.socket() as client:
            client.send(struct.pack("!I", length))
            hung_up_on(pooler, client)
    assert pooler.rss() - before < MIB


@pytest.mark.case("O06")
def test_a_web_browser_is_hung_up_on_and_its_bytes_do_not_break_the_log(pooler: Pooler) -> None:
    mark = pooler.log_mark()
    with pooler.socket() as client:
        client.send(b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n")
        hung_up_on(pooler, client)
    assert "\x1b" not in pooler.log(mark)


@pytest.mark.case("O07")
def test_protocol_two_is_refused_with_a_reason(pooler: Pooler) -> None:
    reason = "old V2 protocol not supported"
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user}, version=m.PROTOCOL_2_0))
        if pooler.kind == direct.KIND:
            # In the format of protocol 2.0: no length, no fields.
            said = b"EFATAL:  unsupported frontend protocol 2.0"
            assert client.take(len(said)) == said
            return
        fields = refusal(client)
    assert fields["C"] in ("0A000", "08P01")
    assert reason in fields["M"]


@pytest.mark.case("O09")
def test_no_user_name_is_refused(pooler: Pooler) -> None:
    reason = wording(pooler, "no username supplied", postgresql="no PostgreSQL user name specified")
    with pooler.socket() as client:
        client.send(m.startup({"database": pooler.database}))
        fields = refusal(client)
    assert reason in fields["M"]
    assert fields["C"] in ("28000", "08P01")


@pytest.mark.case("O10")
@pgbouncer_fails("has another text before 1.25")
def test_a_missing_last_null_is_refused(pooler: Pooler) -> None:
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": pooler.database}, terminator=b""))
        fields = refusal(client)
    assert fields["C"] == "08P01"
    assert fields["M"] == "invalid startup packet layout: expected terminator as last byte"


@pytest.mark.case("O11")
def test_an_unknown_startup_parameter_is_named(pooler: Pooler) -> None:
    reason = wording(
        pooler,
        "unsupported startup parameter: foo",
        postgresql='unrecognized configuration parameter "foo"',
    )
    with pooler.socket() as client:
        client.send(m.startup({"user": pooler.user, "database": pooler.database, "foo": "bar"}))
        assert refusal(client)["M"] == reason


def refused_for(pooler: Pooler, options: str) -> str:
    """The text with which these startup options are refused."""
    with pooler.socket() as client:
        parameters = {"user": pooler.user, "database": pooler.database, "options": options}
        client.send(m.startup(parameters))
        return refusal(client)["M"]


@pytest.mark.case("O12")
@pgbouncer_fails("took no options at all before 1.20")
@pooler_only("PostgreSQL takes every setting in options")
def test_a_setting_in_options_that_is_not_tracked_is_named(pooler: Pooler) -> None:
    assert refused_for(pooler, "-c geqo=off") == "unsupported startup parameter in options: geqo"


@pytest.mark.case("O12")
@pgbouncer_fails("took no options at all before 1.20")
def test_an_unknown_option_is_refused_with_a_reason(pooler: Pooler) -> None:
    assert refused_for(pooler, "-z") == wording(
        pooler,
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
        postgresql="invalid command-line argument for server process: -z",
    )


@pytest.mark.case("O14")
def test_a_password_as_the_first_bytes_is_hung_up_on(pooler: Pooler) -> None:
    with pooler.socket() as client:
        client.send(m.password("secret"))
        hung_up_on(pooler, client)


# --- other requests ------------------------------------------------------------------------------


@pytest.mark.case("O22")
def test_bytes_behind_a_request_for_encryption_are_never_read_as_a_login(pooler: Pooler) -> None:
    with pooler.socket() as client:
        startup = m.startup({"user": pooler.user, "database": pooler.database})
        client.send(m.ssl_request() + startup + m.query("select 1"))
        if pooler.kind == direct.KIND:
            assert client.take(1) == b"N"
        fields = refusal(client)
    assert fields["C"] == "08P01"
    assert fields["M"] == "received unencrypted data after SSL request"


@pytest.mark.case("O25")
def test_a_gssenc_request_is_declined_and_the_login_goes_on(pooler: Pooler) -> None:
    with pooler.socket() as client:
        client.send(m.gssenc_request())
        assert client.take(1) == b"N"
        client.login(pooler.user, pooler.database)
        assert client.value("select 1") == "1"


@pytest.mark.case("O26")
def test_a_cancel_request_with_an_unknown_key_does_nothing(pooler: Pooler) -> None:
    with pooler.socket() as client:
        client.send(m.cancel_request(12345, b"\1\2\3\4"))
        assert client.closed_within(PROMPTLY)


@pytest.mark.case("O27")
@pytest.mark.parametrize("size", [12, 20, 300])
def test_a_cancel_request_of_another_size_does_nothing(pooler: Pooler, size: int) -> None:
    with pooler.raw() as victim, pooler.socket() as client:
        key = victim.greeting.secret.ljust(size, b"\0")[: size - 12]
        packet = m.cancel_request(victim.greeting.pid, key)
        assert len(packet) == size
        client.send(packet)
        assert client.closed_within(PROMPTLY)
        assert victim.value("select 1") == "1"


# --- negotiation -----------------------------------------------------------------------------------


def negotiations(target: Target, startup: bytes) -> list[m.Message]:
    """The NegotiateProtocolVersion messages of a login, which must succeed."""
    with target.socket() as client:
        client.send(startup)
        return [message for message in client.until() if message.tag == b"v"]


@pytest.mark.case("O08")
@pgbouncer_fails("speaks 3.0 only before 1.20")
def test_a_newer_protocol_is_negotiated_down_as_postgresql_does(pooler: Pooler, server: Server) -> None:
    def told(target: Target) -> list[m.Message]:
        parameters = {"user": target.user, "database": target.database, "_pq_.x": "1"}
        return negotiations(target, m.startup(parameters, version=NEWER))

    (here,), (there,) = told(pooler), told(server)
    assert here.body[4:] == there.body[4:] == m.int32(1) + b"_pq_.x\0"
    assert here.body[:4] in (m.int32(m.PROTOCOL_3_0), m.int32(m.PROTOCOL_3_2))


@pytest.mark.case("O08")
@pgbouncer_fails("speaks 3.0 only before 1.20")
@pooler_only("a login waits only where its server is another's")
def test_a_newer_protocol_is_negotiated_down_exactly_once_even_if_the_login_has_to_wait(
    launch: Launch, server: Server
) -> None:
    def slow(conversation: Conversation) -> None:
        wait_until(lambda: bool(released), 10, "released by the test")
        conversation.welcome()
        conversation.serve()

    released: list[bool] = []
    with FakeServer(slow) as fake:
        entries: Sections = {
            "fake": {"host": fake.host, "port": fake.port, "dbname": "x"},
            BYSTANDER: entry(server, user=server.user),
        }
        pooler = launch(entries, user="u")
        with pooler.socket() as client:
            client.send(m.startup({"user": "u", "database": "fake", "_pq_.x": "1"}, version=NEWER))
            wait_until(lambda: fake.logins() == 1, 10, "the pooler logs in")
            released.append(True)
            got = client.until()
    (negotiation,) = [message for message in got if message.tag == b"v"]
    assert negotiation.body == m.int32(m.PROTOCOL_3_2) + m.int32(1) + b"_pq_.x\0"
