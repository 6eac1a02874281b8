import pytest

from proxy.names import from_wire, to_wire


@pytest.mark.parametrize("name", [b"app", "grün".encode(), b"\xff\xfe", b"a\xc3", bytes(range(1, 256))])
def test_every_sequence_of_bytes_survives_the_way_to_text_and_back(name: bytes) -> None:
    assert to_wire(from_wire(name)) == name


def test_names_in_utf8_are_readable_text() -> None:
    assert from_wire("grün".encode()) == "grün"


def test_different_bytes_have_different_texts() -> None:
    texts = {from_wire(bytes([byte])) for byte in range(1, 256)}
    assert len(texts) == 255
