"""Database entries and the connection strings that describe them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from config.databases import DatabaseSettings, PeerSettings, check_database_name, parse_connection_string
from config.types import LoadBalance


def pairs(text: str) -> list[tuple[str, str]]:
    return list(parse_connection_string(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \t ", []),
        ("host=a port=1", [("host", "a"), ("port", "1")]),
        ("\t host =\t a  port\t=1 ", [("host", "a"), ("port", "1")]),
        ("password=a\tb host=c", [("password", "a\tb"), ("host", "c")]),
        ("password='it''s a b' x=1", [("password", "it's a b"), ("x", "1")]),
        ("password=''''", [("password", "'")]),
        ("password=a=b'c", [("password", "a=b'c")]),
        ("password=a;b#c", [("password", "a;b#c")]),
        ('dbname="x y"', None),
        ("connect_query='select ''a''; set x=1'", [("connect_query", "select 'a'; set x=1")]),
    ],
)
def test_connection_string(text: str, expected: list[tuple[str, str]] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="expected key=value"):
            pairs(text)
    else:
        assert pairs(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("host", 'expected key=value, found "host"'),
        ("host a=1", 'expected key=value, found "host"'),
        ("=a", 'expected key=value, found "="'),
        ("host= ", '"host" has no value'),
        ("host=''", '"host" has no value'),
        ("host='a", 'the quote around the value of "host" is not closed'),
        ("host='a'' port=1", 'the quote around the value of "host" is not closed'),
        ("host='a'b", 'expected a blank after the quoted value of "host"'),
    ],
)
def test_connection_string_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs(text)


def test_mistake_in_a_connection_string_does_not_print_its_values() -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        pairs("password='hunter2'x")
    assert "hunter2" not in str(caught.value)


def test_pairs_before_the_mistake_are_still_given() -> None:
    found = parse_connection_string("host=a oops")
    assert next(found) == ("host", "a")
    with pytest.raises(ValueError, match="oops"):
        next(found)


KEYS = st.from_regex(r"[a-z_]+", fullmatch=True)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
BLANKS = st.text(" \t", min_size=1, max_size=3)


@given(st.lists(st.tuples(KEYS, VALUES)), BLANKS)
def test_quoted_values_of_any_content_read_back_the_same(written: list[tuple[str, str]], blank: str) -> None:
    text = blank.join(f"{key}{blank}={blank}'" + value.replace("'", "''") + "'" for key, value in written)
    assert pairs(text) == written


@given(st.text(alphabet="ab='\\ \t", max_size=30))
def test_any_text_gives_pairs_or_a_value_error(text: str) -> None:
    try:
        found = pairs(text)
    except ValueError:
        return
    assert all(key and value for key, value in found)


def test_hosts_are_a_comma_list() -> None:
    assert DatabaseSettings(host="a, b,@c").hosts == ("a", "b", "@c")
    assert DatabaseSettings().hosts == ()


@pytest.mark.parametrize("host", ["a,,b", ",", "a, "])
def test_host_list_without_gaps(host: str) -> None:
    with pytest.raises(ValidationError, match="empty name between commas"):
        DatabaseSettings(host=host)


def test_startup_parameters_are_those_that_are_set_in_a_fixed_order() -> None:
    entry = DatabaseSettings(timezone="UTC", application_name="x", client_encoding="LATIN1")
    assert list(entry.startup_parameters.items()) == [
        ("client_encoding", "LATIN1"),
        ("timezone", "UTC"),
        ("application_name", "x"),
    ]


@pytest.mark.parametrize("port", [0, 65536])
def test_server_port_is_a_tcp_port(port: int) -> None:
    with pytest.raises(ValidationError):
        DatabaseSettings(port=port)


def test_negative_numbers_mean_inherited() -> None:
    entry = DatabaseSettings.model_validate({"pool_size": "-1", "query_wait_timeout": "-1"})
    assert entry.pool_size is None
    assert entry.query_wait_timeout is None


@pytest.mark.parametrize("key", ["auth_user", "auth_query", "auth_dbname"])
def test_auth_query_may_be_a_databases_own_and_empty_is_unset(key: str) -> None:
    assert getattr(DatabaseSettings.model_validate({key: "x"}), key) == "x"
    assert getattr(DatabaseSettings.model_validate({key: ""}), key) is None


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError):
        DatabaseSettings.model_validate({"hots": "a"})


@pytest.mark.parametrize("name", ["pgbouncer", "howdah"])
def test_names_of_the_console_are_reserved(name: str) -> None:
    with pytest.raises(ValueError, match="reserved"):
        check_database_name(name)


@pytest.mark.parametrize("name", ["", "x" * 64, "ä" * 32])
def test_database_name_has_1_to_63_bytes(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 63 bytes"):
        check_database_name(name)
    assert check_database_name("x" * 63) == "x" * 63


def test_hosts_are_taken_in_turn_by_default() -> None:
    assert DatabaseSettings().load_balance_hosts is LoadBalance.ROUND_ROBIN


def test_peer_listens_on_the_poolers_port_by_default() -> None:
    assert PeerSettings(host="a").port == 6432


def test_a_password_that_is_half_a_scram_verifier_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError, match="begins like a SCRAM-SHA-256 verifier") as caught:
        DatabaseSettings.model_validate({"user": "u", "password": "SCRAM-SHA-256$4096:c2FsdA==$cut"})
    assert "cut" not in str(caught.value)
