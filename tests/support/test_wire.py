"""The raw client against a real PostgreSQL, so that the integration tests rest on something tried."""

import pytest

from tests.support import messages as m
from tests.support.postgres import APP_TRUST, PostgresServer
from tests.support.wire import LoginRefused, Raw, send_cancel


@pytest.fixture
def client(postgres: PostgresServer) -> "Raw":
    return Raw(postgres.host, postgres.port)


def test_a_login_a_query_and_an_error(client: Raw, postgres: PostgresServer) -> None:
    with client:
        greeting = client.login(APP_TRUST.name, postgres.database)
        assert greeting.parameters["server_encoding"] == "UTF8"
        assert greeting.pid > 0
        assert client.rows("select 1, null, 'x'") == [["1", None, "x"]]
        assert client.error("select 1/0")["C"] == "22012"
        got = client.ask(m.one_shot("select $1::text as word", ["here"]))
        assert m.tags(got) == "12TDCZ"
        assert m.column_names(got[2].body) == ["word"]
        assert m.rows(got) == [["here"]]
        assert m.command_tags(got) == ["SELECT 1"]


def test_silence_and_the_end_are_told_apart(client: Raw, postgres: PostgresServer) -> None:
    with client:
        client.login(APP_TRUST.name, postgres.database)
        assert client.silent_for(0.05)
        client.send(m.terminate())
        assert client.closed_within(3)


def test_a_refused_login_carries_the_fields(client: Raw) -> None:
    with client, pytest.raises(LoginRefused) as caught:
        client.login(APP_TRUST.name, "nothing_like_it")
    assert caught.value.fields["C"] == "3D000"


def test_waiting_too_long_is_an_error(client: Raw, postgres: PostgresServer) -> None:
    with client:
        client.login(APP_TRUST.name, postgres.database)
        with pytest.raises(TimeoutError):
            client.until(within=0.05)


def test_a_cancel_request_cancels(client: Raw, postgres: PostgresServer) -> None:
    with client:
        greeting = client.login(APP_TRUST.name, postgres.database)
        client.send(m.query("select pg_sleep(30)"))
        # One that comes before the query has begun cancels nothing.
        for _ in range(50):
            send_cancel((postgres.host, postgres.port), greeting.pid, greeting.secret)
            if not client.silent_for(0.1):
                break
        assert m.errors(client.until(within=5))[0]["C"] == "57014"
