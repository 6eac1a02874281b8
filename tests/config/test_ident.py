"""Maps of users say what PostgreSQL's say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.hba import Ask
from config.ident import Mapping, may_be, parse_ident, read_ident


def parse(text: str) -> tuple[Mapping, ...]:
    mappings, file = parse_ident(text.encode(), "maps")
    assert file.problems == []
    return mappings


NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("text", "system_user", "user", "answer"),
    [
        ("m joe alice", "joe", "alice", True),
        ("m joe alice", "joe", "bob", False),
        ("m joe alice", "jim", "alice", False),
        ("m joe alice", "JOE", "alice", False),
        ("other joe alice", "joe", "alice", False),
        ("m joe alice\nm joe bob", "joe", "bob", True),
        ("m joe all", "joe", "anybody", True),
        ('m joe "all"', "joe", "anybody", False),
        ('m joe "all"', "joe", "all", True),
        ('m "joe doe" "a b"', "joe doe", "a b", True),
        ("m pgbouncer.acme.org someuser", "pgbouncer.acme.org", "someuser", True),
        (r"m /^(.*)@example\.com$ \1", "bob@example.com", "bob", True),
        (r"m /^(.*)@example\.com$ \1", "bob@example.com", "alice", False),
        (r"m /^(.*)@example\.com$ \1", "bob@example.comx", "bob", False),
        (r"m /^(.*)@example\.com$ guest", "x@example.com", "guest", True),
        (r"m /^(.*)@(.*)$ \1_x_\1", "a@b", r"a_x_\1", True),
        (r"m /^(.*)@x$ \1", "all@x", "bob", False),
        (r"m /^(.*)@x$ \1", "+admins@x", "+admins", True),
        (r"m /^(a)?b$ \1", "b", "", False),
        (r"m /^(a)?(b)+$ \1", "ab", "a", True),
        (r"m /^(.*?)@x$ guest", "a@x", "guest", True),
        (r"m /^(?:ab|abc)(.*)$ \1", "abcd", "d", False),
        (r"m /^(?:ab|abc)(.*)$ \1", "abcd", "cd", False),
        (r"m /^(.*)@(a|b)\.org$ \1", "joe@b.org", "joe", True),
        (r"m /^(.*)$ /^\w+$", "joe", "bob", True),
        (r"m joe /^app_", "joe", "app_1", True),
        (r"m joe /^app_", "joe", "xapp_1", False),
        (r'm "/^a{1,2}(.*)$" "\1"', "aax", "x", True),
        (r"m joe \1", "joe", r"\1", True),
    ],
)
def test_who_may_be_whom(text: str, system_user: str, user: str, answer: bool) -> None:
    assert may_be(parse(text), "m", system_user, user, NOBODY) is answer
    assert may_be(parse(text), "m", system_user, user, None) is answer


def test_membership_is_asked_for_only_where_it_decides() -> None:
    mappings = parse("m joe +admins\nm joe alice\nm jim +admins")
    assert may_be(mappings, "m", "joe", "bob", None) is Ask.ROLES
    assert may_be(mappings, "m", "joe", "alice", None) is True
    assert may_be(mappings, "m", "jack", "bob", None) is False
    assert may_be(mappings, "m", "joe", "bob", frozenset({"bob", "admins"})) is True
    assert may_be(mappings, "m", "joe", "bob", frozenset({"bob"})) is False


def test_what_was_caught_is_compared_letter_by_letter() -> None:
    assert may_be(parse(r"m /^(.*)$ \1"), "m", "+admins", "bob", frozenset({"admins"})) is False


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("m joe", "expected three names: map, system user, user"),
        ("m", "expected three names: map, system user, user"),
        ("m joe alice bob", "expected three names: map, system user, user"),
        ("m joe alice,bob", "expected three names: map, system user, user"),
        ('m "" alice', "a name is empty"),
        ("m /( alice", 'regular expression "(": a ( without its )'),
        (
            r"m /^.*_.*_.*_x$ a",
            r'regular expression "^.*_.*_.*_x$": could take too long: it has too many ways to '
            "fit the same name",
        ),
        ("m joe /(", 'regular expression "(": a ( without its )'),
        ("m joe +", "+ needs the name of a role"),
        (r"m /^(.*?)@x$ \1", r'"/^(.*?)@x$": for \1 nothing like *? and no repeated parentheses'),
        (r"m /^(a)+$ \1", r'"/^(a)+$": for \1 nothing like *? and no repeated parentheses'),
        (r"m /^(?:x(a)){2}$ \1", r'"/^(?:x(a)){2}$": for \1 nothing like *? and no repeated parentheses'),
        (r"m /joe \1", r'"/joe" has no parentheses for the \1 in "\1"'),
    ],
)
def test_a_mistake_is_told_with_its_line(line: str, message: str) -> None:
    mappings, file = parse_ident(f"m a b\n{line}\nm c d\n".encode(), "maps")
    assert len(mappings) == 2
    assert [str(problem) for problem in file.problems] == [f"maps:2: auth_ident_file: {message}"]


def test_a_file_that_is_not_there_is_a_problem() -> None:
    mappings, file = read_ident("/none/such")
    assert mappings == ()
    assert len(file.problems) == 1


@given(st.text(alphabet="m/ \\1(.*)+,all\"'#\n", max_size=60) | st.text(max_size=60))
def test_no_text_raises(text: str) -> None:
    mappings, _ = parse_ident(text.encode("utf-8", "surrogatepass"), "maps")
    for mapping in mappings:
        may_be(mappings, mapping.map, "joe", "alice", None)
