"""What counts as left behind, whose fault it is, and how it is counted and told."""

import logging

import pytest

from proxy.audit import (
    MOST_APPLICATIONS,
    OTHER,
    PROBE,
    Leak,
    Leaks,
    State,
    Suspect,
    Watch,
    excused,
    log_failure,
    log_leaks,
    read,
)
from proxy.log import Prefix
from proxy.pool.parameters import NOTHING_APPLIED, Tracked
from tests.support import messages as m

FRESH: State = (b"u u none", b"public", 0, 0, 0, 0, 0)
NOTHING: frozenset[Leak] = frozenset()
ROLE, PATH, TEMP, LOCK, LISTEN, PREPARED, CURSOR = Leak
SERVER = Prefix("S", 3, "app", "alice", "10.0.0.1:5432")


def state(**changed: bytes | int) -> State:
    """A fresh state but for these, named as in Leak."""
    return tuple(changed.get(leak.name.lower(), fresh) for leak, fresh in zip(Leak, FRESH, strict=True))


def fresh() -> Watch:
    watch = Watch()
    watch.learn(FRESH)
    return watch


# The query and its answer.


def test_the_query_names_everything_in_full() -> None:
    text = PROBE.decode()
    for word in ("concat", "current_setting", "count", "left", "pg_backend_pid", "pg_my_temp_schema"):
        assert text.count(f"{word}(") == text.count(f"pg_catalog.{word}(") > 0
    for word in ("pg_class", "pg_locks", "pg_listening_channels()", "pg_prepared_statements", "pg_cursors"):
        assert f"FROM pg_catalog.{word}" in text
    assert "=" not in text.replace("OPERATOR(pg_catalog.=)", "")
    assert "<>" not in text.replace("OPERATOR(pg_catalog.<>)", "")


def row(*values: str | None) -> bytes:
    return m.data_row(values)[5:]


def test_a_row_is_read_as_settings_and_numbers() -> None:
    assert read(row("u u none", "public", "0", "1", "2", "3", "44")) == (
        *(b"u u none", b"public"),
        *(0, 1, 2, 3, 44),
    )


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"",
        b"\0\7",
        row("u"),
        row("u", "p", "0", "0", "0", "0"),
        row("u", "p", "0", "0", "0", "0", "0", "0"),
        row("u", "p", "0", "0", "0", "0", "many"),
        row("u", "p", "0", "0", "0", "0", None),
    ],
)
def test_what_is_no_answer_is_none(body: bytes | None) -> None:
    assert read(body) is None


# What counts.


@pytest.mark.parametrize(
    ("found", "leaks"),
    [
        (state(), []),
        (state(role=b"u u boss"), [ROLE]),
        (state(search_path=b""), [PATH]),
        (state(temp_schema=2), [TEMP]),
        (state(advisory_lock=1), [LOCK]),
        (state(listen=1), [LISTEN]),
        (state(prepared_statement=1), [PREPARED]),
        (state(cursor=1), [CURSOR]),
        (state(role=b"x", cursor=1, listen=4), [ROLE, LISTEN, CURSOR]),
    ],
)
def test_what_a_fresh_session_does_not_have_was_left_behind(found: State, leaks: list[Leak]) -> None:
    assert fresh().compare(found, NOTHING) == leaks


def test_who_found_it_there_is_not_blamed() -> None:
    watch = fresh()
    assert watch.compare(state(search_path=b"a", cursor=2), NOTHING) == [PATH, CURSOR]
    assert watch.compare(state(search_path=b"a", cursor=2), NOTHING) == []
    assert watch.compare(state(search_path=b"a", cursor=1), NOTHING) == []
    assert watch.compare(state(search_path=b"b", cursor=2), NOTHING) == [PATH, CURSOR]


def test_who_cleans_up_is_not_blamed_and_who_comes_then_is() -> None:
    watch = fresh()
    watch.compare(state(role=b"u u boss", advisory_lock=1), NOTHING)
    assert watch.compare(state(), NOTHING) == []
    assert watch.compare(state(role=b"u u boss", advisory_lock=1), NOTHING) == [ROLE, LOCK]


def test_what_a_fresh_session_has_is_no_leak() -> None:
    watch = Watch()
    watch.learn(state(search_path=b"app", role=b"u u owner", temp_schema=2))
    assert watch.compare(state(search_path=b"app", role=b"u u owner", temp_schema=2), NOTHING) == []
    assert watch.compare(state(), NOTHING) == [ROLE, PATH]
    assert watch.compare(state(temp_schema=2), NOTHING) == []
    assert watch.compare(state(temp_schema=3), NOTHING) == [TEMP]


def test_of_a_session_that_nobody_saw_when_it_was_fresh_the_numbers_are_known() -> None:
    watch = Watch()
    assert watch.compare(state(search_path=b"app", cursor=1), NOTHING) == [CURSOR]
    assert watch.compare(state(search_path=b"app", cursor=1), NOTHING) == []
    assert watch.compare(state(search_path=b"other"), NOTHING) == [PATH]


def test_what_follows_its_client_is_excused_and_forgotten() -> None:
    watch = fresh()
    assert watch.compare(state(search_path=b"a", role=b"x"), frozenset((PATH,))) == [ROLE]
    assert watch.compare(state(search_path=b"a", role=b"x"), NOTHING) == [PATH]
    unseen = Watch()
    assert unseen.compare(state(search_path=b"a"), frozenset((PATH,))) == []
    assert unseen.compare(state(search_path=b"b"), NOTHING) == []
    assert unseen.compare(state(search_path=b"a"), NOTHING) == [PATH]


@pytest.mark.parametrize(
    ("applied", "leaks"),
    [
        ((), ()),
        (((b"work_mem", b"1"),), ()),
        (((b"search_path", b"a"), (b"work_mem", b"1")), (PATH,)),
        (((b"role", b"a"),), (ROLE,)),
        (((b"session_authorization", b"a"), (b"search_path", b"a")), (ROLE, PATH)),
    ],
)
def test_what_a_client_asked_for_at_login_follows_it(
    applied: tuple[tuple[bytes, bytes], ...], leaks: tuple[Leak, ...]
) -> None:
    tracked = Tracked()
    assert excused(tracked, tracked.unknown, applied) == frozenset(leaks)


def test_a_tracked_parameter_follows_its_client_where_servers_report_it() -> None:
    tracked = Tracked(["search_path"])
    assert excused(tracked, tracked.unknown, NOTHING_APPLIED) == NOTHING
    values = tracked.overlay(tracked.unknown, {b"search_path": b"public"})
    assert excused(tracked, values, NOTHING_APPLIED) == {PATH}


# Counting and telling.


def test_leaks_are_counted_by_kind_and_application() -> None:
    leaks = Leaks()
    leaks.add([ROLE, PATH], b"psql")
    leaks.add([PATH], b"psql")
    leaks.add([PATH], b"")
    assert leaks.counts == {("role", "psql"): 1, ("search_path", "psql"): 2, ("search_path", ""): 1}


def test_only_so_many_applications_are_told_apart() -> None:
    leaks = Leaks()
    for number in range(MOST_APPLICATIONS + 7):
        leaks.add([PATH], b"app %d" % number)
    leaks.add([PATH], b"app 1")
    assert leaks.counts["search_path", OTHER] == 7
    assert leaks.counts["search_path", "app 1"] == 2
    assert len(leaks.counts) == MOST_APPLICATIONS + 1


def test_the_name_of_an_application_is_escaped_and_cut() -> None:
    leaks = Leaks()
    leaks.add([PATH], b"a\n\xff" + b"x" * 900)
    ((_, name),) = leaks.counts
    assert name.startswith("a\\x0a\\xffxxx")
    assert len(name) < 80


def test_a_leak_is_told_with_who_left_what(caplog: pytest.LogCaptureFixture) -> None:
    log_leaks(SERVER, Suspect(31, "bob", b"a\nb"), [PATH, CURSOR])
    log_leaks(SERVER, Suspect(31, "bob", b""), [ROLE])
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            f"{SERVER}C-0x1f (user bob, application a\\x0ab) left behind session state: search_path, cursor",
        ),
        (logging.WARNING, f"{SERVER}C-0x1f (user bob, application unnamed) left behind session state: role"),
    ]


def test_a_failure_is_told_without_data(caplog: pytest.LogCaptureFixture) -> None:
    log_failure(SERVER, m.error_response("57014", "canceling secret"))
    log_failure(SERVER, None)
    assert [record.getMessage().removeprefix(str(SERVER)) for record in caplog.records] == [
        'audit_release failed: B 44 ErrorResponse V "ERROR" C "57014"',
        "audit_release failed: no answer",
    ]
