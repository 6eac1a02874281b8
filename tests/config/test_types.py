"""How values are read from text, which are refused, and how they are shown."""

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from config.types import (
    MAX_WORKERS,
    AuthType,
    PoolMode,
    check_auth_methods,
    check_tls_versions,
    inherit_if_negative,
    parse_c_integer,
    parse_decimal,
    parse_flag,
    parse_mode,
    parse_seconds,
    parse_words,
    parse_workers,
    refuse_nul,
    show_flag,
    show_mode,
    show_seconds,
    show_words,
    unset_if_empty,
)


@pytest.mark.parametrize("text", ["1", "true", "TRUE", "yes", "On", 1, True])
def test_flag_is_true_for(text: object) -> None:
    assert parse_flag(text) is True


@pytest.mark.parametrize("text", ["0", "false", "No", "OFF", 0, False])
def test_flag_is_false_for(text: object) -> None:
    assert parse_flag(text) is False


@pytest.mark.parametrize("value", ["2", "", "maybe", 2, 1.0, None, ["1"]])
def test_flag_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="must be 0 or 1"):
        parse_flag(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("20", 20), ("0x10", 16), ("0X1f", 31), ("010", 8), ("0", 0), ("-3", -3), ("+4", 4), (7, 7)],
)
def test_global_number_is_read_as_c_does(text: object, number: int) -> None:
    assert parse_c_integer(text) == number


@pytest.mark.parametrize("value", ["", "5x", "1.5", "08", "1_000", " 1", "0x", "9" * 5000, True, 1.5, None])
def test_global_number_refuses(value: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number") as caught:
        parse_c_integer(value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(("text", "number"), [("010", 10), ("-1", -1), (5, 5)])
def test_entry_number_is_decimal(text: object, number: int) -> None:
    assert parse_decimal(text) == number


@pytest.mark.parametrize("value", ["0x10", "5432,5433", "", "9" * 5000, False, 2.0])
def test_entry_number_refuses_what_follows_the_digits(value: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        parse_decimal(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0.5", 0.5), ("15", 15), (".25", 0.25), ("1.", 1), ("1e3", 1000), ("-1", -1), (2, 2)],
)
def test_seconds_allow_fractions(text: object, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("value", ["", "5s", "nan", "inf", "1 2", ".", True, None])
def test_seconds_refuse(value: object) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds"):
        parse_seconds(value)


def test_workers_are_counted_by_a_number_or_by_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert (parse_workers("auto"), parse_workers("AUTO"), parse_workers("4"), parse_workers(2)) == (
        3,
        3,
        4,
        2,
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(200)))
    assert parse_workers("auto") == MAX_WORKERS
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert parse_workers("auto") == 1


@pytest.mark.parametrize("value", ["0", "65", "many", -1, True])
def test_workers_are_refused_outside_their_range(value: object) -> None:
    with pytest.raises(ValueError, match="workers"):
        Settings.model_validate({"workers": value})


@pytest.mark.parametrize(("text", "mode"), [("0770", 0o770), ("0", 0), (0o700, 0o700)])
def test_mode_is_octal(text: object, mode: int) -> None:
    assert parse_mode(text) == mode


@pytest.mark.parametrize("value", ["770", "0888", "", "0o770"])
def test_mode_without_leading_zero_is_refused_because_c_would_read_it_as_decimal(value: str) -> None:
    with pytest.raises(ValueError, match="leading zero"):
        parse_mode(value)


def test_mode_refuses_other_types() -> None:
    with pytest.raises(ValueError, match="whole number"):
        parse_mode(True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("a", ("a",)),
        ("''", ()),
        (" a , b ,", ("a", "b")),
        ("'127.0.0.1, ::1'", ("127.0.0.1", "::1")),
        ('"a", "b"', ("a", "b")),
        ('"it\'s"', ("it's",)),
        ("'", ("'",)),
        ("'a\"", ("'a\"",)),
    ],
)
def test_comma_list_is_split_and_unquoted(text: str, words: tuple[str, ...]) -> None:
    assert parse_words(text) == words


def test_comma_list_takes_a_list_as_it_is() -> None:
    assert parse_words(["a,b"]) == ["a,b"]


@given(st.lists(st.from_regex(r"[a-z0-9_.:*]+", fullmatch=True)))
def test_shown_list_reads_back_the_same(words: list[str]) -> None:
    assert parse_words(show_words(tuple(words))) == tuple(words)


@given(st.integers(0, 10**9).map(lambda micro: micro / 1_000_000))
def test_shown_seconds_read_back_the_same(seconds: float) -> None:
    assert parse_seconds(show_seconds(seconds)) == seconds


@given(st.integers(0, 0o777))
def test_shown_mode_reads_back_the_same(mode: int) -> None:
    assert parse_mode(show_mode(mode)) == mode


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (show_flag, True, "1"),
        (show_flag, False, "0"),
        (show_seconds, 3600.0, "3600"),
        (show_seconds, 0.5, "0.5"),
        (show_seconds, 2147483647.0, "2147483647"),
        (show_mode, 0o777, "0777"),
        (show_mode, 0, "0000"),
        (show_words, ("a", "b"), "a, b"),
        (show_words, "a", "a"),
    ],
)
def test_values_are_shown_as_pgbouncer_shows_them(
    show: Callable[[object], str], value: object, text: str
) -> None:
    assert show(value) == text


def test_words_of_a_choice_are_found_in_any_case() -> None:
    assert PoolMode("Transaction") is PoolMode.TRANSACTION
    assert AuthType("SCRAM-SHA-256") is AuthType.SCRAM_SHA_256


@pytest.mark.parametrize("value", ["", "trans", 5, None])
def test_choice_refuses_other_words(value: str) -> None:
    with pytest.raises(ValueError, match="is not a valid PoolMode"):
        PoolMode(value)


def test_tls_versions_are_known_by_name() -> None:
    assert check_tls_versions(("TLSv1.3", "!tlsv1.0", "secure")) == ("TLSv1.3", "!tlsv1.0", "secure")
    with pytest.raises(ValueError, match="is not a TLS version"):
        check_tls_versions(("secure", "tlsv1.4"))


def test_methods_of_servers_are_known_by_libpqs_names() -> None:
    assert check_auth_methods(("SCRAM-SHA-256", "none")) == ("scram-sha-256", "none")
    with pytest.raises(ValueError, match='"plain" is none of md5, none, password, scram-sha-256'):
        check_auth_methods(("md5", "plain"))
    with pytest.raises(ValueError, match="at least one"):
        check_auth_methods(())


def test_text_may_not_hold_a_nul() -> None:
    assert refuse_nul("a") == "a"
    with pytest.raises(ValueError, match="NUL"):
        refuse_nul("a\0b")


def test_empty_text_and_negative_numbers_mean_unset() -> None:
    assert unset_if_empty("") is None
    assert unset_if_empty("x") == "x"
    assert inherit_if_negative(-1) is None
    assert inherit_if_negative(0) == 0
