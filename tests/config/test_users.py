"""User entries and the auth file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.secret import Secret
from config.users import UserSettings, check_user_name, parse_auth_file

VERIFIER = b"SCRAM-SHA-256$4096:c2FsdA==$" + b"a" * 43 + b"=:" + b"b" * 43 + b"="


def secrets(data: bytes) -> dict[str, list[bytes]]:
    found, problems = parse_auth_file(data, "users.txt")
    assert problems == []
    return {user: [secret.reveal() for secret in items] for user, items in found.items()}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", {}),
        (b'"u" "pw"\n', {"u": [b"pw"]}),
        (b'"u" "pw"', {"u": [b"pw"]}),
        (b'  "u"\t"pw" and "more"\r\n', {"u": [b"pw"]}),
        (b'\xef\xbb\xbf"u" "pw"\n', {"u": [b"pw"]}),
        (b'"u""x" "p""w"""\n', {'u"x': [b'p"w"']}),
        (b'"u":"pw"\n', {"u": [b"pw"]}),
        (b'"u" ""\n', {"u": []}),
        (b'"u" "a"\n"v" "x"\n"u" "b"\n"u" "a"\n', {"u": [b"a", b"b"], "v": [b"x"]}),
        (b'; no\n# no\n\n  ; no\n"u" "#;"\n', {"u": [b"#;"]}),
        (b'"\xff" "\xfe"\n', {"\udcff": [b"\xfe"]}),
        (b'"u" "' + VERIFIER + b'"\n', {"u": [VERIFIER]}),
    ],
)
def test_auth_file(data: bytes, expected: dict[str, list[bytes]]) -> None:
    assert secrets(data) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"u pw", 'expected "user" "secret"'),
        (b'"u" pw', 'expected "user" "secret"'),
        (b'"u" "pw', 'expected "user" "secret"'),
        (b'"u""pw"', 'expected "user" "secret"'),
        (b'"a\0b" "pw"', 'expected "user" "secret"'),
        (b'"" "pw"', "a user name has 1 to 127 bytes"),
        (b'"' + b"u" * 128 + b'" "pw"', "a user name has 1 to 127 bytes"),
        (b'"u" "' + b"x" * 65_531 + b'"', "more than 65530 bytes"),
        (b'"u" "a\0b"', "must not contain a NUL character"),
        (b'"u" "SCRAM-SHA-256$x"', "begins like a SCRAM-SHA-256 verifier, but is none"),
        (b'"u" "' + VERIFIER[:-1] + b'"', "begins like a SCRAM-SHA-256 verifier, but is none"),
    ],
)
def test_line_that_makes_no_sense_is_a_problem_and_the_others_count(line: bytes, message: str) -> None:
    found, problems = parse_auth_file(b'"a" "1"\n' + line + b'\n"b" "2"\n', "users.txt")
    assert list(found) == ["a", "b"]
    (problem,) = problems
    assert (problem.file, problem.line, problem.key) == ("users.txt", 2, "auth_file")
    assert message in problem.message


def test_longest_secret_is_accepted() -> None:
    assert secrets(b'"u" "' + b"x" * 65_530 + b'"') == {"u": [b"x" * 65_530]}


def test_problem_does_not_print_the_secret() -> None:
    _, problems = parse_auth_file(b'user "hunter2"\n', "users.txt")
    assert "hunter2" not in str(problems[0])


FIELDS = st.binary(min_size=1, max_size=100).map(lambda b: b.replace(b"\n", b"n").replace(b"\0", b"0"))


@given(
    st.dictionaries(FIELDS, FIELDS.filter(lambda b: not b.startswith(b"SCRAM-"))),
    st.sampled_from([b" ", b"\t", b" , "]),
)
def test_names_and_secrets_of_any_content_read_back_the_same(users: dict[bytes, bytes], gap: bytes) -> None:
    data = b"".join(
        b'"' + user.replace(b'"', b'""') + b'"' + gap + b'"' + secret.replace(b'"', b'""') + b'"\n'
        for user, secret in users.items()
    )
    assert secrets(data) == {
        user.decode("utf-8", "surrogateescape"): [secret] for user, secret in users.items()
    }


@given(st.binary(max_size=60).map(lambda data: data.replace(b"a", b'"')))
def test_every_line_of_any_file_is_a_user_or_a_problem_or_blank(data: bytes) -> None:
    found, problems = parse_auth_file(b"\n" + data, "f")
    lines = [line for line in data.split(b"\n") if line.strip() and line.strip()[:1] not in b";#"]
    assert len(problems) <= len(lines)
    assert len(found) + len(problems) <= len(lines)
    assert bool(found or problems) == bool(lines)


@pytest.mark.parametrize("name", ["", "u" * 128, "ä" * 64])
def test_user_name_has_1_to_127_bytes(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 127 bytes"):
        check_user_name(name)
    assert check_user_name("u" * 127) == "u" * 127


def test_user_entry_sets_nothing_by_default() -> None:
    assert set(dict(UserSettings()).values()) == {None}


def test_user_entry_reads_text() -> None:
    entry = UserSettings.model_validate({"pool_size": "5", "query_timeout": "0.5", "pool_mode": "Session"})
    assert (entry.pool_size, entry.query_timeout, entry.pool_mode) == (5, 0.5, "session")


def test_secret_type() -> None:
    found, _ = parse_auth_file(b'"u" "pw"', "f")
    assert found == {"u": (Secret(b"pw"),)}
