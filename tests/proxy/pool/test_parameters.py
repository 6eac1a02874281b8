import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.pool.parameters import (
    NOTHING_APPLIED,
    TRACKED,
    Accepted,
    Alignment,
    Applied,
    Tracked,
    alignment,
    clean_application_name,
    identifier,
    literal,
    setting,
)

HEX = re.compile(
    rb"pg_catalog\.convert_from\(pg_catalog\.decode\('([0-9a-f]*)','hex'\),pg_catalog\.getdatabaseencoding\(\)\)"
)
STATEMENT = re.compile(
    rb"SET (?P<set>\w+)=(?P<plain>'(?:[^']|'')*')"
    rb"|SELECT pg_catalog\.set_config\((?P<name>'(?:[^']|'')*'),(?P<value>'(?:[^']|'')*'|"
    + HEX.pattern
    + rb"),false\)"
    rb"|RESET (?P<reset>\"(?:[^\"]|\"\")*\"(?:\.\"(?:[^\"]|\"\")*\")*)"
)
NAMES = Tracked().names


def value_of(sql: bytes) -> bytes:
    """What PostgreSQL makes of a literal, whatever standard_conforming_strings is."""
    found = HEX.fullmatch(sql)
    if found is not None:
        return bytes.fromhex(found[1].decode())
    assert sql.startswith(b"'")
    assert sql.endswith(b"'")
    assert b"\\" not in sql
    inner = sql[1:-1]
    assert b"'" not in inner.replace(b"''", b"")
    return inner.replace(b"''", b"'")


def run(sql: bytes, settings: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Execute what `alignment` writes; anything but such statements with semicolons between is an error."""
    settings = dict(settings)
    at = 0
    while at < len(sql):
        found = STATEMENT.match(sql, at)
        assert found is not None, sql[at:]
        if found["reset"] is not None:
            parts = re.findall(rb'"((?:[^"]|"")*)"', found["reset"])
            settings.pop(b".".join(part.replace(b'""', b'"') for part in parts), None)
        elif found["set"] is not None:
            settings[found["set"]] = value_of(found["plain"])
        else:
            settings[value_of(found["name"])] = value_of(found["value"])
        at = found.end()
        assert sql[at : at + 1] in (b"", b";")
        at += 1
    assert not sql.endswith(b";")
    return settings


VALUES = st.one_of(st.binary(max_size=30), st.text("a'\\\";\n$é\x80 -/*", max_size=20).map(str.encode))


# Quoting.


@settings(deadline=None)
@given(value=VALUES)
def test_any_value_comes_back_from_its_sql_literal(value: bytes) -> None:
    assert value_of(literal(value)) == value


@settings(deadline=None)
@given(value=VALUES)
def test_a_literal_is_plain_ascii_without_backslashes(value: bytes) -> None:
    sql = literal(value)
    assert sql.isascii()
    assert b"\\" not in sql
    assert b"\0" not in sql


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", b"''"),
        (b"a'b", b"'a''b'"),
        (b"'; drop table t; --", b"'''; drop table t; --'"),
        (b"UTC", b"'UTC'"),
    ],
)
def test_plain_values_stand_between_quotes(value: bytes, expected: bytes) -> None:
    assert literal(value) == expected


@pytest.mark.parametrize("value", [b"a\\'b", "é".encode(), b"\x95\\'", b"a\0b"])
def test_what_an_encoding_might_misread_is_sent_as_hexadecimal(value: bytes) -> None:
    assert HEX.fullmatch(literal(value)) is not None


@pytest.mark.parametrize("name", [*TRACKED, "IntervalStyle", "DATESTYLE"])
def test_scalar_parameters_are_set_by_name(name: str) -> None:
    assert setting(name.encode(), b"it's") == b"SET " + name.encode() + b"='it''s'"


@pytest.mark.parametrize("name", [b"search_path", b"app.tenant", b"x'y", b"temp_tablespaces"])
def test_any_other_parameter_goes_through_set_config_for_set_would_quote_a_list(name: bytes) -> None:
    sql = setting(name, b"a, b")
    assert sql == b"SELECT pg_catalog.set_config(" + literal(name) + b",'a, b',false)"
    assert run(sql, {}) == {name: b"a, b"}


def test_a_scalar_whose_value_is_not_plain_goes_through_set_config_too() -> None:
    assert setting(b"application_name", "é".encode()).startswith(
        b"SELECT pg_catalog.set_config('application_name',pg_catalog.convert_from("
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"search_path", b'"search_path"'), (b"app.tenant", b'"app"."tenant"'), (b'a"b', b'"a""b"')],
)
def test_a_name_is_quoted_part_by_part_for_reset(name: bytes, expected: bytes) -> None:
    assert identifier(name) == expected


# Alignment.

TRACKED_VALUES = st.tuples(*[st.one_of(st.none(), VALUES) for _ in NAMES])
APPLIED = st.dictionaries(
    st.sampled_from([b"search_path", b"app.tenant", b'a"b.c', b"statement_timeout", b"x'y"]),
    VALUES,
    max_size=4,
).map(lambda items: tuple(items.items()))


@settings(deadline=None)
@given(have=TRACKED_VALUES, want=TRACKED_VALUES, had=APPLIED, wanted=APPLIED)
def test_an_aligned_server_has_what_the_session_wants_and_nothing_of_the_session_before(
    have: tuple[bytes | None, ...], want: tuple[bytes | None, ...], had: Applied, wanted: Applied
) -> None:
    before = {name: value for name, value in zip(NAMES, have, strict=True) if value is not None}
    after = run(alignment(NAMES, have, want, had, wanted), {**before, **dict(had)})

    expected = {name: value for name, value in zip(NAMES, want, strict=True) if value is not None}
    assert after == {**before, **expected, **dict(wanted)}


@settings(deadline=None)
@given(values=TRACKED_VALUES, applied=APPLIED)
def test_a_server_that_fits_needs_nothing(values: tuple[bytes | None, ...], applied: Applied) -> None:
    assert alignment(NAMES, values, values, applied, applied) == b""
    assert alignment(NAMES, values, (*values,), applied, tuple(list(applied))) == b""


def test_only_what_differs_is_set() -> None:
    have = (b"UTF8", b"ISO", b"UTC", b"on", b"a")
    want = (b"UTF8", b"German", b"UTC", b"on", b"b")
    assert (
        alignment(NAMES, have, want, NOTHING_APPLIED, NOTHING_APPLIED)
        == b"SET DateStyle='German';SET application_name='b'"
    )


def test_an_unknown_value_is_left_as_it_is() -> None:
    nothing = (None,) * len(NAMES)
    assert alignment(NAMES, (b"x",) * len(NAMES), nothing, NOTHING_APPLIED, NOTHING_APPLIED) == b""


def test_settings_asked_for_at_login_are_reset_and_set_anew() -> None:
    values = (None,) * len(NAMES)
    had, wanted = ((b"a.b", b"1"), (b"search_path", b"x")), ((b"search_path", b"y"),)
    assert alignment(NAMES, values, values, had, wanted) == (
        b"RESET \"a\".\"b\";SELECT pg_catalog.set_config('search_path','y',false)"
    )


# The table of values.


def test_the_tracked_parameters_are_pgbouncer_s_and_the_extra_ones() -> None:
    tracked = Tracked(["search_path", "TimeZone", "SEARCH_PATH"])

    assert tracked.names == (*(name.encode() for name in TRACKED), b"search_path")
    assert [tracked.index(name) for name in (b"timezone", b"DATESTYLE", b"Search_Path", b"geqo")] == [
        2,
        1,
        5,
        -1,
    ]
    assert tracked.unknown == (None,) * 6


def test_equal_values_are_one_object() -> None:
    tracked = Tracked()
    one = tracked.intern((b"UTF8", b"ISO", b"UTC", b"on", b"a"))
    assert tracked.intern((b"UTF8", b"ISO", b"UTC", b"on", bytes([97]))) is one
    assert tracked.with_value(one, 4, b"a") is one
    assert tracked.with_value(tracked.with_value(one, 4, b"b"), 4, b"a") is one


def test_equal_settings_asked_for_at_login_are_one_object() -> None:
    tracked = Tracked()
    one = tracked.intern_applied(((b"search_path", b"x"),))
    assert tracked.intern_applied(((b"search_path", bytes([120])),)) is one
    assert tracked.intern_applied(()) is NOTHING_APPLIED


def test_some_values_are_laid_over_others() -> None:
    tracked = Tracked()
    values = tracked.overlay(tracked.unknown, {b"timezone": b"UTC", b"geqo": b"off", b"DateStyle": b"ISO"})
    assert values == (None, b"ISO", b"UTC", None, None)
    assert tracked.overlay(values, {}) is values


def test_what_may_change_how_a_statement_is_read_is_all_but_the_application_name() -> None:
    tracked = Tracked()
    values = tracked.overlay(tracked.unknown, {b"TimeZone": b"UTC", b"application_name": b"one"})
    other = tracked.overlay(values, {b"application_name": b"another"})
    assert tracked.parsing(values) is tracked.parsing(other)
    assert tracked.parsing(values)[tracked.index(b"TimeZone")] == b"UTC"
    assert tracked.parsing(values) is not tracked.parsing(
        tracked.overlay(values, {b"TimeZone": b"Asia/Tokyo"})
    )


def test_the_tables_start_anew_before_clients_can_fill_the_memory_with_inventions() -> None:
    tracked = Tracked()
    values = tracked.with_value(tracked.unknown, 4, b"0")
    applied = tracked.intern_applied(((b"x", b"0"),))
    for number in range(10_001):
        value = b"%d" % number
        tracked.with_value(tracked.unknown, 4, value)
        tracked.intern_applied(((b"x", value),))

    assert tracked.with_value(tracked.unknown, 4, b"0") is not values
    assert tracked.intern_applied(((b"x", bytes([48])),)) is not applied


# How servers spell values.


def test_a_value_is_known_in_the_form_in_which_servers_report_it_once_one_was_asked() -> None:
    accepted = Accepted()
    assert accepted.form(b"client_encoding", b"utf-8") is None
    accepted.learn(b"Client_Encoding", b"utf-8", b"UTF8")
    assert accepted.form(b"CLIENT_ENCODING", b"utf-8") == b"UTF8"
    assert accepted.form(b"client_encoding", b"UTF-8") is None

    accepted.forget()
    assert accepted.form(b"client_encoding", b"utf-8") is None


def test_a_plain_application_name_is_known_without_asking() -> None:
    accepted = Accepted()
    assert accepted.form(b"Application_Name", b"my app") == b"my app"
    assert accepted.form(b"application_name", "caf\u00e9".encode()) is None
    accepted.learn(b"application_name", "caf\u00e9".encode(), b"caf\\xc3\\xa9")
    assert accepted.form(b"application_name", "caf\u00e9".encode()) == b"caf\\xc3\\xa9"


def test_what_is_remembered_of_values_is_bounded_in_number_and_length() -> None:
    accepted = Accepted()
    for number in range(1001):
        accepted.learn(b"TimeZone", b"%d" % number, b"x")
    assert accepted.form(b"timezone", b"1000") == b"x"
    assert accepted.form(b"timezone", b"0") is None

    accepted.learn(b"TimeZone", b"z" * 1024, b"x")
    accepted.learn(b"TimeZone", b"z" * 1025, b"x")
    assert accepted.form(b"timezone", b"z" * 1024) == b"x"
    assert accepted.form(b"timezone", b"z" * 1025) is None


@settings(deadline=None)
@given(name=st.binary(max_size=100))
def test_an_application_name_is_at_most_63_printable_characters(name: bytes) -> None:
    clean = clean_application_name(name)
    assert len(clean) == min(len(name), 63)
    assert all(32 <= byte <= 126 for byte in clean)
    assert clean_application_name(clean) == clean


# Alignments that are remembered.


def test_what_makes_one_of_another_is_written_once() -> None:
    tracked = Tracked()
    have = tracked.overlay(tracked.unknown, {b"TimeZone": b"UTC"})
    want = tracked.overlay(tracked.unknown, {b"TimeZone": b"Asia/Tokyo"})

    found = tracked.alignment(have, want, NOTHING_APPLIED, NOTHING_APPLIED)

    assert found.message == b"Q\0\0\0\x1eSET TimeZone='Asia/Tokyo'\0"
    assert (found.reply, found.values) == (b"", have)
    assert tracked.alignment(have, want, NOTHING_APPLIED, NOTHING_APPLIED) is found
    assert tracked.alignment(want, have, NOTHING_APPLIED, NOTHING_APPLIED) is not found


def test_what_needs_nothing_has_no_message() -> None:
    tracked = Tracked()
    have = tracked.overlay(tracked.unknown, {b"TimeZone": b"UTC"})
    assert tracked.alignment(have, tracked.unknown, NOTHING_APPLIED, NOTHING_APPLIED).message == b""


def test_where_settings_of_a_login_differ_nothing_is_remembered() -> None:
    tracked = Tracked()
    applied = ((b"search_path", b"a"),)
    one, other = (
        tracked.alignment(tracked.unknown, tracked.unknown, NOTHING_APPLIED, applied) for _ in range(2)
    )
    assert one.message == other.message != b""
    assert one is not other


def test_alignments_are_forgotten_when_they_are_too_many() -> None:
    tracked = Tracked()

    def to(number: int) -> Alignment:
        want = tracked.overlay(tracked.unknown, {b"application_name": b"%d" % number})
        return tracked.alignment(tracked.unknown, want, NOTHING_APPLIED, NOTHING_APPLIED)

    first = to(0)
    for number in range(999):
        to(number)
    assert to(0) is first
    to(999)
    to(1000)
    assert to(0) is not first


def test_a_long_reply_is_not_remembered() -> None:
    tracked = Tracked()
    found = tracked.alignment(tracked.unknown, tracked.unknown, NOTHING_APPLIED, NOTHING_APPLIED)
    found.learn(bytes(1025), tracked.unknown)
    assert found.reply == b""
