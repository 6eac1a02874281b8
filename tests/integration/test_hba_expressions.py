"""Expressions of rules mean to us what they mean to PostgreSQL: both are asked about the same names."""

import random

import psycopg
import pytest

from config.pattern import Pattern, compile_pattern
from tests.support.server import Server
from tests.support.standard import howdah_only

pytestmark = howdah_only("PgBouncer's rules know no expressions")

_PARTS = (
    *("a", "b", "_", "1", "A", " ", "é", ".", "-", "{", "]"),
    *(r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\.", r"\\", r"\-", r"\@"),
    *("[ab]", "[^a]", "[a-c_]", "[]a]", "[^]a]", "[[:alpha:]]", "[[:digit:]_]", r"[\d-]", r"[\w.]", "[a-]"),
    *("^", "$", r"\A", r"\Z", r"\m", r"\M", r"\y", r"\Y"),
    *("(", "(?:", ")", "|"),
    *("*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "+?", "??"),
)
_LETTERS = "ab_1A é.-{]\\@c"


def expressions(number: int, seed: int) -> list[Pattern]:
    """So many random ones that we take."""
    choose = random.Random(seed)
    found: list[Pattern] = []
    while len(found) < number:
        text = "".join(choose.choices(_PARTS, k=choose.randint(1, 7)))
        try:
            found.append(compile_pattern(text))
        except ValueError:
            continue
    return found


def catching(number: int, seed: int) -> list[Pattern]:
    """Random ones with parentheses that catch something, of those that may decide who somebody is."""
    choose = random.Random(seed)
    parts = ("a", "b", "_", ".", r"\w", "[^a]", "(?:a|ab)", "(?:b|ab|_)")
    signs = ("", "", "*", "+", "?", "{1,2}", "*?", "+?", "??")

    def some() -> str:
        return "".join(choose.choice(parts) + choose.choice(signs) for _ in range(choose.randint(0, 3)))

    found: list[Pattern] = []
    while len(found) < number:
        ends = choose.choice((("^", "$"), ("^", "$"), ("", ""), ("^", ""), ("", "$")))
        inner = choose.choice((some(), f"{some()}|{some()}"))
        text = f"{ends[0]}{some()}({inner}){choose.choice(signs)}{some()}{ends[1]}"
        if readable(text) and (pattern := compile_pattern(text)).is_plain:
            found.append(pattern)
    return found


def readable(text: str) -> bool:
    try:
        compile_pattern(text)
    except ValueError:
        return False
    return True


def names(number: int, seed: int) -> list[str]:
    choose = random.Random(seed)
    return ["", *("".join(choose.choices(_LETTERS, k=choose.randint(1, 6))) for _ in range(number))]


@pytest.mark.parametrize("seed", range(4))
def test_postgresql_finds_the_same_names(server: Server, seed: int) -> None:
    asked = names(60, seed)
    for pattern in expressions(300, seed):
        rows = server.sql(
            'select name from unnest(%s::text[]) as name where name ~ (%s collate "C")', (asked, pattern.text)
        )
        theirs = {str(row[0]) for row in rows}
        ours = {name for name in asked if pattern.fits(name)}
        assert ours == theirs, pattern


@pytest.mark.parametrize("seed", range(4))
def test_postgresql_catches_the_same_in_the_first_parentheses(server: Server, seed: int) -> None:
    asked = names(40, seed)
    caught = 0
    for pattern in catching(200, seed):
        query = 'select name, (regexp_match(name, %s collate "C"))[1] from unnest(%s::text[]) as name'
        for name, theirs in server.sql(query, (pattern.text, asked)):
            ours = pattern.caught(str(name))
            caught += ours is not None
            assert ours in (None, theirs), (pattern.text, name)
    assert caught > 50


def test_what_postgresql_cannot_read_we_do_not_read_either(server: Server) -> None:
    choose = random.Random(7)
    refused = 0
    for _ in range(1500):
        text = "".join(choose.choices(_PARTS, k=choose.randint(1, 7)))
        try:
            server.sql("select '' ~ (%s collate \"C\")", (text,))
        except psycopg.errors.InvalidRegularExpression:
            refused += 1
            assert not readable(text), text
    assert refused > 100
