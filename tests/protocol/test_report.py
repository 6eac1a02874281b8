import pytest

from protocol.errors import MalformedMessage
from protocol.report import ErrorResponse, NoticeResponse


def test_a_made_error_has_postgresqls_fields_in_its_order() -> None:
    error = ErrorResponse.make("FATAL", "28P01", "no", detail="because", hint="try")

    assert error.encode() == b"E\0\0\0\x2cSFATAL\0VFATAL\0C28P01\0Mno\0Dbecause\0Htry\0\0"
    assert (error.severity, error.sqlstate, error.message) == ("FATAL", "28P01", "no")


def test_detail_and_hint_may_be_left_out() -> None:
    assert list(NoticeResponse.make("NOTICE", "00000", "hello").fields) == ["S", "V", "C", "M"]


def test_a_notice_differs_by_its_tag() -> None:
    assert NoticeResponse({}).encode() == b"N\0\0\0\x05\0"


def test_a_report_comes_back_as_it_was_encoded() -> None:
    error = ErrorResponse({"S": b"ERROR", "\xe9": b"x", "?": b""})
    assert ErrorResponse.decode(error.encode()[5:]) == error


def test_an_error_may_lack_every_field() -> None:
    error = ErrorResponse.decode(b"\0")
    assert (error.severity, error.sqlstate, error.message) == ("", "", "")


def test_the_untranslated_severity_is_preferred() -> None:
    assert ErrorResponse({"S": b"FEHLER", "V": b"ERROR"}).severity == "ERROR"
    assert ErrorResponse({"S": b"FEHLER"}).severity == "FEHLER"


def test_bytes_that_are_no_utf8_can_still_be_shown() -> None:
    assert ErrorResponse({"M": b"caf\xe9"}).message == "caf\\xe9"


def test_text_that_has_no_utf8_form_is_sent_as_an_escape() -> None:
    assert ErrorResponse.make("ERROR", "XX000", "a\udc80").fields["M"] == b"a\\udc80"


@pytest.mark.parametrize("body", [b"", b"M", b"Mtext", b"Mtext\0", b"Mtext\0\0x", b"Mtext\0\0\0"])
def test_a_report_without_its_terminators_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        ErrorResponse.decode(body)


@pytest.mark.parametrize("fields", [{"": b"x"}, {"MM": b"x"}, {"\0": b"x"}, {"\u0100": b"x"}, {"M": b"a\0b"}])
def test_a_field_that_could_not_be_read_back_is_not_written(fields: dict[str, bytes]) -> None:
    with pytest.raises(MalformedMessage):
        ErrorResponse(fields).encode()
