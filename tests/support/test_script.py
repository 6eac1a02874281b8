import pytest

from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.script import Conversation, FakeServer, Unexpected
from tests.support.wire import LoginRefused, Raw, send_cancel


def test_the_default_script_lets_anybody_in_and_echoes_queries() -> None:
    with FakeServer() as fake, Raw(fake.host, fake.port) as client:
        client.send(m.ssl_request())
        assert client.take(1) == b"N"
        greeting = client.login("u", "d", {"TimeZone": "Asia/Tokyo"})
        assert greeting.parameters["TimeZone"] == "Asia/Tokyo"
        assert client.value("select 1") == "select 1"
        assert m.tags(client.query("")) == "IZ"
        assert m.command_tags(client.query("SET a = 1")) == ["SET"]
        client.quit()
    assert fake.conversations[0].startup["user"] == "u"
    assert fake.logins() == 1


def test_cancel_requests_are_recorded() -> None:
    with FakeServer() as fake:
        send_cancel((fake.host, fake.port), 7, b"\1\2\3\4")
        assert [(cancel.pid, cancel.secret) for cancel in fake.cancels] == [(7, b"\1\2\3\4")]


def test_a_script_can_refuse() -> None:
    fake = FakeServer(lambda conversation: conversation.refuse("28000", "go away"))
    with fake, Raw(fake.host, fake.port) as client, pytest.raises(LoginRefused, match="go away"):
        client.login("u", "d")


def test_what_a_script_does_not_expect_is_raised_at_the_end() -> None:
    def strict(conversation: Conversation) -> None:
        conversation.welcome()
        conversation.expect(b"Q", b"select 2")

    fake = FakeServer(strict)
    with Raw(fake.host, fake.port) as client:
        client.login("u", "d")
        client.send(m.query("select 1"))
        wait_until(lambda: bool(fake.problems), 3, "noticed")
    with pytest.raises(Unexpected):
        fake.close()
