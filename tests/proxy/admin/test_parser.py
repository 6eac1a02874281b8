import re
import time

import pytest

from proxy.admin.parser import Command, CommandError, SetCommand, parse


def verb_and_argument(text: str) -> tuple[str, str | None]:
    command = parse(text.encode())
    assert isinstance(command, Command)
    return command.verb, command.argument


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SHOW POOLS", ("show", "POOLS")),
        ("show pools;", ("show", "pools")),
        (" \t\r\n Show\n\tpools ; \n", ("show", "pools")),
        ("RELOAD", ("reload", None)),
        ('PAUSE "my-db"', ("pause", "my-db")),
        ('PAUSE "say ""hi"""', ("pause", 'say "hi"')),
        ('PAUSE ""', ("pause", None)),
        ('"show" "pools"', ("show", "pools")),
        ("KILL_CLIENT 17", ("kill_client", "17")),
        ("PAUSE MixedCase", ("pause", "MixedCase")),
        ('PAUSE "d;b"', ("pause", "d;b")),
        ('PAUSE "größe"', ("pause", "größe")),
        ("FROB", ("frob", None)),
    ],
)
def test_a_command_is_a_verb_and_at_most_one_word(text: str, expected: tuple[str, str | None]) -> None:
    assert verb_and_argument(text) == expected


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("SET pool_mode = session", "pool_mode", "session"),
        ("set pool_mode='session';", "pool_mode", "session"),
        ("SET pool_mode TO session", "pool_mode", "session"),
        ("SET pool_mode to'it''s'", "pool_mode", "it's"),
        ('SET "pool_mode" = "a b"', "pool_mode", "a b"),
        ("SET server_check_query = ''", "server_check_query", ""),
        ("SET\nstats_users\n=\n'a, b'\n;", "stats_users", "a, b"),
    ],
)
def test_set_takes_a_key_and_a_word_or_string(text: str, key: str, value: str) -> None:
    command = parse(text.encode())
    assert isinstance(command, SetCommand)
    assert (command.key, command.value) == (key, value)


@pytest.mark.parametrize("text", ["", " ", ";", " ;\n"])
def test_an_empty_text_is_no_command(text: str) -> None:
    assert parse(text.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "FROB; SHOW POOLS",
        "SHOW POOLS; SHOW POOLS;",
        "SHOW POOLS;;",
        "SHOW ALL POOLS",
        "SHOW POOLS -- please",
        "/* hint */ SHOW POOLS",
        "SET pool_mode = ",
        "SET pool_mode = a b",
        "SET TIME ZONE 'UTC'",
        "SETpool_mode = session",
        "SELECT 1 + 1",
        "SELECT pg_catalog.version()",
        "PAUSE 'db'",
        'PAUSE "db',
        "PAUSE db-1",
        "$1",
        "SHOW $1",
        "\x01\x02",
    ],
)
def test_anything_else_is_quoted_in_the_refusal(text: str) -> None:
    with pytest.raises(
        CommandError, match=re.escape(f"invalid command '{text.strip()}', use SHOW HELP;")
    ) as error:
        parse(text.encode())
    assert error.value.sqlstate == "08P01"


@pytest.mark.parametrize(
    "text",
    [
        "A" * 16,
        "SHOW " + "x" * 64,
        'PAUSE "' + "ü" * 32 + '"',
        "SET " + "k" * 64 + " = 1",
        "SET k = " + "1" * 256,
        'SET "" = 1',
    ],
)
def test_words_over_the_limits_are_bad_arguments(text: str) -> None:
    with pytest.raises(CommandError, match=r"^bad arguments$"):
        parse(text.encode())


def test_words_at_the_limits_are_taken() -> None:
    assert verb_and_argument("A" * 15 + ' "' + "x" * 63 + '"') == ("a" * 15, "x" * 63)
    assert parse(b"SET " + b"k" * 63 + b" = '" + b"v" * 255 + b"'") is not None


@pytest.mark.parametrize("piece", [b"x", b'"', b'""', b"'", b"A ", b" ", b"SET a = ", b"\xff", b'"a', b";"])
def test_a_megabyte_of_junk_is_refused_briefly(piece: bytes) -> None:
    junk = b"FROB " + piece * (1_000_000 // len(piece)) + b"!"
    with pytest.raises(CommandError) as error:
        parse(junk)
    assert error.value.message.startswith("invalid command 'FROB ")
    assert error.value.message.endswith("...', use SHOW HELP;")
    assert len(error.value.message) < 1000


def test_junk_within_the_limit_does_not_make_the_parser_backtrack() -> None:
    for junk in (b'SHOW "' + b"a" * 2000, b"SET a = '" + b"'" * 1999 + b"x", b" " * 9 + b'"a"' * 600):
        before = time.process_time()
        with pytest.raises(CommandError):
            parse(junk)
        assert time.process_time() - before < 1  # an exponential search would not end in a lifetime


def test_the_text_of_a_command_is_kept_for_the_log() -> None:
    command = parse(b"  PAUSE app; ")
    assert isinstance(command, Command)
    assert command.text == "PAUSE app;"


def test_text_that_is_not_utf8_is_shown_escaped() -> None:
    with pytest.raises(CommandError, match=r"invalid command 'SHOW \\xff'"):
        parse(b"SHOW \xff")
