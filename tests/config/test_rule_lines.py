"""Files of rules become lines of fields of tokens, as PostgreSQL and PgBouncer read them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.rule_lines import MAX_INCLUDE_DEPTH, RuleFile, Token

Lines = list[tuple[int, list[list[str]]]]


def parse(text: str | bytes) -> RuleFile:
    data = text if isinstance(text, bytes) else text.encode()
    return RuleFile("auth_hba_file").parse(data, "rules")


def shown(file: RuleFile) -> Lines:
    return [
        (line.number, [[token.text for token in tokens] for tokens in line.fields]) for line in file.lines
    ]


def complaints(file: RuleFile) -> list[str]:
    return [str(problem) for problem in file.problems]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a b", [["a"], ["b"]]),
        ("\ta \t b\r\n", [["a"], ["b"]]),
        ("a,b c", [["a", "b"], ["c"]]),
        ("a, b c", [["a", "b"], ["c"]]),
        ("a , b c", [["a", "b"], ["c"]]),
        ("a ,b c", [["a", "b"], ["c"]]),
        ("a#b c", [["a"]]),
        ("a # , b", [["a"]]),
        ('"a b", "c,d" "e#f"', [["a b", "c,d"], ["e#f"]]),
        ('"q1""q2" ""', [['q1"q2'], [""]]),
        ('x="a b" c', [["x=a b"], ["c"]]),
        ("a\\\n b", [["a"], ["b"]]),
        ("a\\\nb c", [["ab"], ["c"]]),
        ("a b\\", [["a"], ["b"]]),
        ("a\\b", [["a\\b"]]),
        ("@ a@b", [["@"], ["a@b"]]),
        ('"@nowhere"', [["@nowhere"]]),
        (b"\xff", [["\udcff"]]),
        ("é", [["é"]]),
    ],
)
def test_one_line(text: str | bytes, fields: list[list[str]]) -> None:
    file = parse(text)
    assert complaints(file) == []
    assert [found for _, found in shown(file)] == [fields]


def test_lines_are_numbered_by_where_they_begin() -> None:
    file = parse("# none\n \t \t\n\t # z\na\n\nb\\\n\\\nc\nd\n")
    assert shown(file) == [(4, [["a"]]), (6, [["bc"]]), (9, [["d"]])]


def test_a_token_that_begins_with_a_quote_is_no_keyword() -> None:
    (line,) = parse('all "all" a"ll" other').lines
    assert [tokens[0].is_keyword("all", "x") for tokens in line.fields] == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a "b', "a quote is not closed"),
        ('a "b\nc"', "a quote is not closed"),
        (", a", "there is nothing before a comma"),
        ("a,, b", "there is nothing before a comma"),
        ("a b,", "there is nothing behind a comma"),
        ("a b, # c", "there is nothing behind a comma"),
        ("# a\\\nb", "a comment must not end in a backslash"),
        ("a # b\\\n", "a comment must not end in a backslash"),
        ("a\0b", "contains a NUL character"),
        ("include", "expected include and one name"),
        ("include a b", "expected include and one name"),
        ("include_dir a,b", "expected include_dir and one name"),
        ("@/none/such x", "/none/such: cannot be read: No such file or directory"),
        ("include /none/such", "/none/such: cannot be read: No such file or directory"),
        ("include_dir /none/such", "/none/such: cannot be read: No such file or directory"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_others_count(text: str, message: str) -> None:
    file = parse(f"first\n\n{text}\nlast\n")
    assert complaints(file)[0] == f"rules:3: auth_hba_file: {message}"
    names = [found[0][0] for _, found in shown(file) if found[0]]
    assert names[0] == "first"
    assert names[-1] == "last"


def test_names_of_a_file_stand_in_place_of_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "names").write_text('# people\nalice, bob carol\n\n"d,e"\n@more\n')
    (tmp_path / "sub" / "more").write_text("all")
    (tmp_path / "rules").write_text("x a,@sub/names,z y\n")
    file = RuleFile("k").read(str(tmp_path / "rules"))
    assert shown(file) == [(1, [["x"], ["a", "alice", "bob", "carol", "d,e", "all", "z"], ["y"]])]
    assert file.lines[0].fields[1][-2] == Token("all")
    assert complaints(file) == []


def test_lines_of_other_files_stand_in_place_of_an_include(tmp_path: Path) -> None:
    (tmp_path / "d" / "sub.conf").mkdir(parents=True)
    for name in ("2.conf", "1.conf", ".3.conf", "4.txt"):
        (tmp_path / "d" / name).write_text(f"from {name}\n")
    (tmp_path / "one").write_text("\nfrom one\n")
    (tmp_path / "rules").write_text(
        'first\ninclude one\ninclude_if_exists none\ninclude_if_exists "one"\ninclude_dir d\nlast\n'
    )
    file = RuleFile("k").read(str(tmp_path / "rules"))
    places = [(Path(line.file).name, line.number, line.fields[-1][0].text) for line in file.lines]
    assert places == [
        ("rules", 1, "first"),
        ("one", 2, "one"),
        ("one", 2, "one"),
        ("1.conf", 1, "1.conf"),
        ("2.conf", 1, "2.conf"),
        ("rules", 6, "last"),
    ]
    assert complaints(file) == []


@pytest.mark.parametrize("text", ["include self\n", "a @self\n"])
def test_a_file_that_names_itself_is_a_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "self"
    path.write_text(text)
    file = RuleFile("k").read(str(path))
    assert complaints(file) == [f"{path}:1: k: more than {MAX_INCLUDE_DEPTH} files deep"]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    file = RuleFile("k").read(str(tmp_path))
    assert complaints(file) == [f"{tmp_path}: k: cannot be read: Is a directory"]
    assert complaints(RuleFile("k").read("a\0b")) == ["a\0b: k: cannot be read: embedded null byte"]


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "rules").write_bytes(b"\xef\xbb\xbflocal\n")
    assert shown(RuleFile("k").read(str(tmp_path / "rules"))) == [(1, [["local"]])]


@given(st.text(alphabet='a,@#" \\\n\t\r\0i', max_size=60) | st.text(max_size=40))
def test_no_text_raises_and_every_line_has_a_place(text: str) -> None:
    file = parse(text.encode("utf-8", "surrogatepass"))
    lines = text.count("\n") + 1
    assert all(1 <= line.number <= lines and line.fields for line in file.lines)
    assert all(1 <= problem.line <= lines for problem in file.problems)
