import pytest

from protocol.scram import ScramVerifier
from protocol.secret import Md5Secret, PlainSecret, md5_response, md5_secret, parse_secret

HASH = b"0" * 31 + b"f"
VERIFIER = (
    b"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    b"$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_a_text_tells_its_form() -> None:
    assert parse_secret(b"sesame") == PlainSecret(b"sesame")
    assert parse_secret(b"md5" + HASH) == Md5Secret(HASH)
    assert isinstance(parse_secret(VERIFIER), ScramVerifier)


@pytest.mark.parametrize("text", [b"", b"md5", b"md5" + HASH[1:], b"md5" + HASH.upper(), b"md4" + HASH])
def test_what_looks_like_no_hash_is_a_password(text: bytes) -> None:
    assert parse_secret(text) == PlainSecret(text)


@pytest.mark.parametrize(
    "text", [b"SCRAM-SHA-256$", VERIFIER[:-1], VERIFIER + b" ", b"SCRAM-SHA-256$1:a$b:c"]
)
def test_a_broken_verifier_is_not_taken_for_a_password(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a SCRAM-SHA-256 verifier"):
        parse_secret(text)


def test_md5_is_computed_as_postgresql_does() -> None:
    secret = md5_secret(b"sesame", b"alice")

    assert secret == Md5Secret(b"1a1403cdf37da2c74e920c31477e3b20")
    assert md5_response(secret, b"salt") == b"md580f49edbaff3f744cd7f68869bd3152d"


@pytest.mark.parametrize("text", [b"sesame", b"md5" + HASH, VERIFIER])
def test_no_form_shows_itself(text: bytes) -> None:
    shown = repr(parse_secret(text))

    assert "sesame" not in shown
    assert HASH.decode() not in shown
    assert "WG5d" not in shown
    assert "\\x" not in shown
