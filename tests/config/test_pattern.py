"""Expressions of rules mean what they mean to PostgreSQL, and none of them takes long."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.pattern import LONGEST_NAME, LONGEST_SYSTEM_NAME, compile_pattern


@pytest.mark.parametrize(
    ("text", "fits", "fits_not"),
    [
        ("b", ["b", "abc"], ["a", "B"]),
        (r"^db\d{2,4}$", ["db12", "db1234"], ["db1", "db12345", "xdb12", "db12\n", "db1٢"]),
        ("^a.c$", ["abc", "a\nc"], ["ac"]),
        ("^(foo|bar)_[a-z]+$", ["foo_a", "bar_zz"], ["foo_", "foo_A"]),
        ("^[]a-]+$", ["]", "a-]"], ["b"]),
        ("^[^[:alpha:]_]$", ["1", "é"], ["a", "_"]),
        ("^[[:digit:][:space:]]$", ["5", " "], ["a"]),
        (r"^[\w.-]+$", ["a.b-c_1"], ["a b"]),
        (r"^\W\S\D$", ["-aa"], ["aaa"]),
        (r"^a\.b\$$", ["a.b$"], ["axb$"]),
        ("(?i)^Bob$", ["bob", "BOB"], ["bobby"]),
        ("^a{2}b{1,}c{0,1}$", ["aab", "aabbc"], ["ab", "aabcc"]),
        ("^x{$", ["x{"], ["x"]),
        ("^a+?b*?c??$", ["aab", "ac"], ["b"]),
        (r"\mfoo\M", ["a foo b", "foo"], ["afoo", "foob"]),
        (r"\Aa\Z", ["a"], ["ab"]),
        (r"\yx\Y", ["xy"], ["x"]),
        ("^(a|)$", ["a", ""], ["b"]),
        ("^(?:ab)+$", ["abab"], ["aba"]),
        ("^a&&b$", ["a&&b"], ["a"]),
        ("^[a&&b]$", ["&"], ["ab"]),
        ("é$", ["café"], ["cafe"]),
    ],
)
def test_what_an_expression_fits(text: str, fits: list[str], fits_not: list[str]) -> None:
    pattern = compile_pattern(text)
    assert [name for name in fits if not pattern.fits(name)] == []
    assert [name for name in fits_not if pattern.fits(name)] == []


@pytest.mark.parametrize(
    ("text", "name", "caught"),
    [
        (r"^(.*)@example\.com$", "alice@example.com", "alice"),
        (r"^(.*)@example\.com$", "alice@example.org", None),
        (r"^(.*)@example\.(com|org)$", "alice@example.org", "alice"),
        (r"^(?:x|y)(.)(.)$", "yab", "a"),
        (r"^(a)|(b)$", "b", None),
        (r"^(b)?a$", "a", None),
        (r"^a$", "a", None),
        # Which alternative is meant, PostgreSQL and Python say differently.
        (r"^(?:ab|abc)(.*)$", "abcd", None),
        (r"^(a|ab)(c|bcd)?", "abcd", None),
    ],
)
def test_what_the_first_parentheses_caught_is_known_if_there_is_only_one_way(
    text: str, name: str, caught: str | None
) -> None:
    assert compile_pattern(text).caught(name) == caught


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("(", "a ( without its )"),
        ("a)", "a ) without its ("),
        ("[a", "a [ without its ]"),
        ("[a\\", "a [ without its ]"),
        ("a\\", "ends in a backslash"),
        ("*a", "nothing to repeat"),
        ("a**", "two repetitions in a row"),
        ("a{1}{2}", "two repetitions in a row"),
        ("^*", "an anchor cannot be repeated"),
        ("x{2", "a repetition is {m}, {m,} or {m,n}"),
        ("x{3,2}", "the lower number first"),
        ("x{256}", "from 0 to 255"),
        ("[b-a]", "from a character to a later one"),
        (r"[a-\d]", "from a character to a later one"),
        ("[[:foo:]]", "no such class"),
        ("[[.a.]]", "collating elements"),
        ("[[=a=]]", "collating elements"),
        (r"(a)\1", "back references"),
        (r"\q", r"\q is not supported"),
        ("(?=a)", "(? is only supported as (?:"),
        ("(" * 30 + ")" * 30, "too many parentheses"),
        ("(a+)+$", "could take too long"),
        ("(a|a)*b", "could take too long"),
        ("(a?){30}", "could take too long"),
        ("^.*a.*b.*c.*d$", "could take too long"),
    ],
)
def test_what_is_refused_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_pattern(text)


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        (r"^.*_.*_.*_x$", LONGEST_NAME),
        (r"^(.*)\.(.*)@example\.com$", LONGEST_SYSTEM_NAME),
        (r"(.*)@example\.com", LONGEST_SYSTEM_NAME),
        (r"(?i)^CN=([^,]+),OU=([^,]+),O=([^,]+)$", LONGEST_SYSTEM_NAME),
        (r"^team_\d+_(ro|rw)$|^(?:[a-z]+_)+x$", LONGEST_SYSTEM_NAME),
    ],
)
def test_what_people_write_is_not_refused(text: str, longest: int) -> None:
    assert compile_pattern(text, longest).text == text


@pytest.mark.parametrize(
    "text",
    ["^.*_.*_.*_x$", "(?i)^([a-z]*)A([a-z]*)A([a-z]*)A$", "^(?:.?){22}x$", "[a-z]*[a-z]*_", "^(.*a)*$"],
)
def test_what_would_take_long_on_a_long_name_is_refused_for_those(text: str) -> None:
    with pytest.raises(ValueError, match="could take too long"):
        compile_pattern(text, LONGEST_SYSTEM_NAME)


@pytest.mark.parametrize(
    ("text", "name", "caught"),
    [
        ("(.*)b", "abab", "aba"),
        ("(.*?)b", "abab", "a"),
        (".*(b)", "ab", "b"),
        ("(.*)?b(c)", "abc", "a"),
        ("x|.*b", "ab", None),
    ],
)
def test_what_may_begin_anywhere_is_found_as_if_it_were_tried_everywhere(
    text: str, name: str, caught: str | None
) -> None:
    pattern = compile_pattern(text)
    assert pattern.fits(name)
    assert pattern.caught(name) == caught


@given(st.text(alphabet="ab()[]{}|*+?^$.\\-:0123,d", max_size=30), st.sampled_from((127, 512)))
@settings(max_examples=300)
def test_an_expression_is_compiled_or_refused_and_never_slow(text: str, longest: int) -> None:
    try:
        pattern = compile_pattern(text, longest)
    except ValueError:
        return
    for name in ("a" * longest, "ab" * (longest // 2), "a" * (longest - 1) + "b"):
        began = time.process_time()
        pattern.fits(name)
        assert time.process_time() - began < 0.1, text
