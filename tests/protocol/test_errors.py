import pytest

from protocol.errors import MalformedMessage, MessageTooLarge, ProtocolError, UnexpectedMessage


@pytest.mark.parametrize(
    ("kind", "sqlstate"),
    [
        (ProtocolError, "08P01"),
        (MalformedMessage, "08P01"),
        (UnexpectedMessage, "08P01"),
        (MessageTooLarge, "54000"),
    ],
)
def test_each_kind_has_a_sqlstate_of_its_own(kind: type[ProtocolError], sqlstate: str) -> None:
    error = kind("broken")

    assert (error.message, error.sqlstate, str(error)) == ("broken", sqlstate, "broken")


def test_a_sqlstate_can_be_given() -> None:
    assert MalformedMessage("no", "0A000").sqlstate == "0A000"


def test_an_unexpected_message_may_say_which_it_was() -> None:
    assert UnexpectedMessage("no").tag == 0
    assert UnexpectedMessage("no", tag=ord("Z")).tag == ord("Z")


def test_every_kind_is_caught_as_a_protocol_error() -> None:
    for kind in (MalformedMessage, MessageTooLarge, UnexpectedMessage):
        assert issubclass(kind, ProtocolError)
