import pytest

from protocol.saslprep import saslprep


@pytest.mark.parametrize(
    ("password", "normal"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u06271\u0628", "\u06271\u0628"),
        ("p\u00e4ss", "p\u00e4ss"),
        ("pa\u0308ss", "p\u00e4ss"),
    ],
)
def test_a_password_is_brought_to_its_normal_form(password: str, normal: str) -> None:
    assert saslprep(password.encode()) == normal.encode()


@pytest.mark.parametrize(
    "password",
    [
        "\u0627\u0031",  # right-to-left, but ends otherwise
        "1\u0627",
        "\u0627a\u0628",  # both directions
        "caf\u00e9\u0007",  # control character
        "\u00ad",  # nothing is left
        "\u0221\u00e9",  # unassigned in Unicode 3.2
        "\ufffd",
        "\ue000",
        "\u200e\u00e9",
        "\U000e0041",
    ],
)
def test_a_password_without_normal_form_is_used_as_it_is(password: str) -> None:
    assert saslprep(password.encode()) == password.encode()


@pytest.mark.parametrize("password", [b"caf\xe9", b"\xff\xfe", b"\xed\xa0\x80"])
def test_a_password_that_is_no_utf8_is_used_as_it_is(password: bytes) -> None:
    assert saslprep(password) == password


def test_an_ascii_password_is_never_changed() -> None:
    assert saslprep(b"a\x07b  c") == b"a\x07b  c"
