import pytest

from proxy.deallocate import deallocated, may_be


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"deallocate x", b"x"),
        (b"DEALLOCATE X", b"x"),
        (b"Deallocate Prepare S_1", b"s_1"),
        (b'deallocate "X"', b"X"),
        (b'deallocate"x"', b"x"),
        (b'deallocate "a ""quoted"" one"', b'a "quoted" one'),
        (b'deallocate "all"', b"all"),
        (b'deallocate prepare "prepare"', b"prepare"),
        (b"deallocate prepare", b"prepare"),
        (b"deallocate prepared", b"prepared"),
        (b"deallocate prepare prepare", b"prepare"),
        (b"deallocate _x$9;", b"_x$9"),
        (b"\t deallocate \r\n\f\v x \n;  ", b"x"),
        (b"deallocate/**/x", b"x"),
        (b"/* one */ -- two\n deallocate /* three **/ x; -- four", b"x"),
        (b"deallocate prepare/* why */x--;\n", b"x"),
        ("deallocate größe".encode(), "größe".encode()),
        (b'deallocate "\xff"', b"\xff"),
    ],
)
def test_a_deallocate_of_one_name_tells_that_name(text: bytes, name: bytes) -> None:
    assert deallocated(text + b"\0") == name
    assert deallocated(text + b"\0\0\0") == name, "as in a Parse"
    assert may_be(text[0])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"select 1",
        b"deallocate",
        b"deallocate all",
        b"DEALLOCATE PREPARE ALL",
        b"deallocate;",
        b"deallocatex",
        b"deallocate x y",
        b"deallocate x; select 1",
        b"deallocate x;;",
        b"deallocate 1x",
        b"deallocate 'x'",
        b"deallocate $1",
        b"deallocate x.y",
        b'deallocate ""',
        b'deallocate "x',
        b"deallocate -- x",
        b"deallocate /* x",
        b"deallocate /* */ */ x",
        b"deallocate - x",
        b"discard all",
        b"-- deallocate x",
    ],
)
def test_anything_else_is_no_deallocate_of_a_name(text: bytes) -> None:
    assert deallocated(text + b"\0") is None


def test_what_stands_behind_the_end_of_the_text_is_not_read() -> None:
    assert deallocated(b"deallocate x /* \0 */ \0") is None
    assert deallocated(b'deallocate "x\0y"\0') is None


@pytest.mark.parametrize("first", [b"s", b"i", b"b", b"(", b"\0", b"1"])
def test_most_texts_can_be_told_by_their_first_byte(first: bytes) -> None:
    assert not may_be(first[0])


@pytest.mark.parametrize("banner", [b"-" * 400, b"/*" * 400, b"/*-*-*/" * 400, b" " * 4000, b"\n--" * 400])
@pytest.mark.parametrize("start", [b"", b"deallocate", b"deallocate prepare", b"deallocate x"])
def test_whatever_a_stranger_writes_is_told_at_once(start: bytes, banner: bytes) -> None:
    assert deallocated(start + banner + b"\nselect 1\0") is None
    assert deallocated(start + banner + b'\n"\0') is None
    assert deallocated(start + banner + b"\nx" + banner + b"\n!\0") is None
