"""What is sent to change settings for a part of a transaction, and to give them back."""

from proxy.statement_settings import changed, restored

NAMES = (b"TimeZone", b"application_name", b"search_path")
UTC = (b"UTC", None, b'"$user", public')
TOKYO = (b"Asia/Tokyo", None, b'"$user", public')
NOW = b"pg_catalog.current_setting('TimeZone')"
KEPT = b"pg_catalog.current_setting('howdah.kept_0')"


def selected(*parts: bytes) -> bytes:
    return b"SELECT WHERE pg_catalog.concat(" + b",".join(parts) + b")IS NULL"


def set_to(value: bytes) -> bytes:
    """Only where it is another: some settings cannot be set, not even to what they are."""
    wanted = b"pg_catalog.set_config('TimeZone'," + value + b",true)"
    return b"CASE WHEN " + NOW + b" OPERATOR(pg_catalog.<>)" + value + b" THEN " + wanted + b" END"


def test_what_differs_is_kept_and_changed_for_the_transaction() -> None:
    kept = b"pg_catalog.set_config('howdah.kept_0'," + NOW + b",true)"
    assert changed(NAMES, TOKYO, UTC) == selected(kept, set_to(b"'UTC'"))
    assert restored(NAMES, TOKYO, UTC) == selected(set_to(KEPT))


def test_what_ends_with_the_transaction_need_not_be_kept() -> None:
    assert changed(NAMES, TOKYO, UTC, kept=False) == selected(set_to(b"'UTC'"))


def test_where_it_is_not_known_what_they_are_all_are_set() -> None:
    texts = changed(NAMES, None, UTC), restored(NAMES, None, UTC)
    for text in texts:
        assert b"'TimeZone'" in text
        assert b"'search_path'" in text
        assert b"application_name" not in text
    assert b"""'"$user", public'""" in texts[0]


def test_where_nothing_differs_nothing_is_sent() -> None:
    assert changed(NAMES, UTC, UTC) == b""
    assert restored(NAMES, UTC, UTC) == b""


def test_a_value_cannot_end_its_literal() -> None:
    text = changed((b"x",), None, (b"it's \\",))
    assert b"it's" not in text
    assert b"it''s" not in text
    assert b"decode('69742773205c','hex')" in text
