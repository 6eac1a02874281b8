"""A DEALLOCATE as the unnamed statement, and what waits for one of all names."""

import pytest

from tests.support import messages as m
from tests.support.named import elsewhere, is_gone, prepare, run, two_servers, unknown, use
from tests.support.playbook import Playbook, from_backend

ABORTED = "E 25P02 current transaction is aborted"


def bound(number: int = 2) -> tuple[str, str]:
    """What is sent where a portal is made of a DEALLOCATE."""
    return f"P DEALLOCATE howdah_{number}", "B"


def run_it(number: int = 2) -> tuple[str, str]:
    """What is sent where that portal is executed."""
    return f"p howdah_{number} COMMIT", "E"


def test_a_deallocate_means_what_has_its_name_when_it_is_executed() -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", "H")
    book.to_server("P deallocate x", "H")
    book.server("1")
    book.client("B x", "B", "E", "B x", "S")
    book.to_server("B howdah_1", *bound(), *run_it(), "B howdah_0", "S")
    book.server("2", "1", "2", "1", "C DEALLOCATE", unknown("howdah_0"), "Z I")
    book.to_client("1", "2", "2", "C DEALLOCATE", unknown("x"), "Z I")
    is_gone(book)


def test_a_server_that_lacks_what_is_deallocated_is_not_given_it() -> None:
    """Its text might be one that can no longer be prepared."""
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("P deallocate x", "B", "E", "S")
    book.to_server("P deallocate x", *bound(), *run_it(), "S", on=2)
    book.server("1", "1", "2", "1", "C DEALLOCATE", "Z I", on=2)
    book.to_client("1", "2", "C DEALLOCATE", "Z I")
    is_gone(book, on=2)


@pytest.mark.parametrize("there", [True, False])
def test_a_deallocate_may_be_executed_in_a_later_transaction(there: bool) -> None:
    on = 1 if there else 2
    book = two_servers()
    prepare(book)
    book.client("P deallocate x", "S")
    book.to_server("P deallocate x", "S")
    book.server("1", "Z I")
    book.to_client("1", "Z I")
    if not there:
        elsewhere(book)
    book.client("B", "E", "S")
    book.to_server(*bound(), *run_it(), "S", on=on)
    book.server("1", "2", "1", "C DEALLOCATE", "Z I", on=on)
    book.to_client("2", "C DEALLOCATE", "Z I")
    is_gone(book, on=on)


def test_a_name_may_be_taken_after_its_deallocate_was_parsed() -> None:
    book = Playbook()
    book.client("P deallocate x", "p x select 1", "B", "E", "S")
    book.to_server("P deallocate x", "p howdah_1 select 1", "s howdah_1", *bound(), *run_it(), "S")
    book.server("1", "1", "t", "T", "1", "2", "1", "C DEALLOCATE", "Z I")
    book.to_client("1", "1", "2", "C DEALLOCATE", "Z I")
    is_gone(book)


def test_of_two_deallocates_the_one_counts_that_is_executed() -> None:
    book = Playbook()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    book.client("P deallocate x", m.bind("one"), "P deallocate y", m.bind("two"), m.execute("two"), "S")
    two = m.parse("", "DEALLOCATE howdah_4") + m.bind("two"), "p howdah_4 COMMIT", m.execute("two")
    book.to_server(
        "P deallocate x", m.parse("", "DEALLOCATE howdah_3") + m.bind("one"), "P deallocate y", *two, "S"
    )
    book.server("1", "1", "2", "1", "1", "2", "1", "C DEALLOCATE", "Z I")
    book.to_client("1", "2", "1", "2", "C DEALLOCATE", "Z I")
    use(book)
    book.client("B y", "S")
    book.to_server("B howdah_0", "S")


@pytest.mark.parametrize("between", [m.bind("", "y"), m.close(b"P", "")])
def test_a_portal_that_was_made_of_something_else_since_deallocates_nothing(between: bytes) -> None:
    book = Playbook()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    book.client("P deallocate x", "B", between, "E", "S")
    sent = m.bind("", "howdah_2") if between[:1] == b"B" else between
    book.to_server("P deallocate x", *bound(3), sent, "E", "S")
    book.server("1", "1", "2", "2" if between[:1] == b"B" else "3", "C SELECT 1", "Z I")
    book.wire().take()
    book.stage().transport.take()
    use(book)


@pytest.mark.parametrize("portal", ["", "other"])
def test_an_execute_may_come_in_pieces(portal: str) -> None:
    book = Playbook()
    prepare(book)
    execute = m.execute(portal)
    book.client("P deallocate x", "B", execute[:5])
    book.to_server("P deallocate x", *bound())
    for at in range(5, len(execute)):
        book.client(execute[at : at + 1])
    book.to_server(*(() if portal else ("p howdah_2 COMMIT",)), execute)


@pytest.mark.parametrize("text", ["E", m.message(b"E", b"x"), m.message(b"C", b"Px"), m.message(b"C")])
def test_what_has_not_its_shape_is_left_to_postgresql(text: str | bytes) -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", m.bind("x"))
    book.wire().take()
    sent = book.client(text)
    book.to_server(sent)


def test_a_deallocate_that_is_only_bound_deallocates_nothing() -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", "s ", "B", "S")
    book.to_server("P deallocate x", "P deallocate x", "s ", *bound(), "S")
    book.server("1", "1", "t", "n", "1", "2", "Z I")
    book.to_client("1", "t", "n", "2", "Z I")
    use(book)


def test_a_deallocate_of_what_is_gone_tells_the_client_s_name() -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", "B", "E", "B", "E", "S")
    book.to_server("P deallocate x", *bound(), *run_it(), *bound(3), "E", "S")
    book.server("1", "1", "2", "1", "C DEALLOCATE", "1", "2", unknown("howdah_3"), "Z I")
    book.to_client("1", "2", "C DEALLOCATE", "2", unknown("x"), "Z I")
    is_gone(book)


@pytest.mark.parametrize("why", ["B z", "E"])
def test_a_deallocate_whose_group_fails_deallocates_nothing(why: str) -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", "B", why, "E", "S")
    book.wire().take()
    replies = ("1", "1", "2", "1") if why == "E" else ("1", "1", "2")
    book.server(*replies, unknown("howdah_0"), "Z I")
    book.stage().transport.take()
    book.client("B x", "E", "S")
    book.to_server(*(("C howdah_2",) if why == "E" else ()), "B howdah_1", "E", "S")


def test_in_a_failed_transaction_a_portal_deallocates_nothing() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q begin", "P deallocate x", "B", "S", "Q bad")
    book.wire().take()
    book.server("C BEGIN", "Z T", "1", "1", "2", "Z T", "E 42601 bad", "Z E")
    book.client("E", "S")
    book.wire().take()
    book.server(ABORTED, "Z E")
    book.stage().transport.take()
    run(book, "rollback", "ROLLBACK", by="a")
    use(book)


def test_a_group_that_fails_leaves_the_deallocate_of_the_next_one() -> None:
    book = Playbook()
    prepare(book)
    book.client("P bad", "S", "P deallocate x", "B", "E", "S")
    book.to_server("P bad", "S", "P deallocate x", *bound())
    book.server("E 42601 bad", "Z I")
    book.to_server(*run_it(), "S")
    book.server("1", "1", "2", "1", "C DEALLOCATE", "Z I")
    book.to_client("E 42601 bad", "Z I", "1", "2", "C DEALLOCATE", "Z I")
    is_gone(book)


def test_a_deallocate_of_an_unknown_name_is_parsed_as_it_is() -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate y", "B", "E", "S")
    book.to_server("P deallocate y", "B", "E", "S")
    book.server("1", "2", unknown("y"), "Z I")
    book.to_client("1", "2", unknown("y"), "Z I")


def test_names_in_many_deallocates_are_told_as_far_as_they_are_remembered() -> None:
    book = Playbook()
    prepare(book)
    for _ in range(102):
        book.client("P deallocate x", "B", "H")
        book.server("1", "1", "2")
    book.client("C x", "E", "S")
    book.stage().transport.take()
    for ours, told in (("howdah_103", "x"), ("howdah_2", "howdah_2")):
        book.server(*(("3",) if told == "x" else ()), unknown(ours), "Z I")
        assert book.stage().transport.take().endswith(from_backend(unknown(told), "Z I"))
        book.client("E", "S")


def test_a_name_that_is_deallocated_and_closed_is_gone() -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", "B", "E", "C x", "S")
    book.to_server("P deallocate x", *bound(), *run_it(), "C x", "S")
    book.server("1", "1", "2", "1", "C DEALLOCATE", "3", "Z I")
    book.to_client("1", "2", "C DEALLOCATE", "3", "Z I")
    is_gone(book)
    (text,) = book.pool.statements.statements.values()
    assert text.clients == 0


def test_a_name_may_be_taken_again_behind_its_deallocate() -> None:
    book = Playbook()
    prepare(book)
    book.client("P deallocate x", "B", "E", "p x select 2", "S")
    book.to_server("P deallocate x", *bound(), *run_it(), "p howdah_3 select 2", "s howdah_3", "S")
    book.server("1", "1", "2", "1", "C DEALLOCATE", "1", "t", "T", "Z I")
    book.to_client("1", "2", "C DEALLOCATE", "1", "Z I")
    use(book, at="howdah_3")


# Behind what may have freed the name.


@pytest.mark.parametrize("command", ["deallocate all", "DISCARD ALL;"])
@pytest.mark.parametrize("named", [True, False])
def test_a_name_that_the_server_lacks_waits_for_what_may_have_freed_it(command: str, named: bool) -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    parsed = (f"p all {command}", "B all") if named else (f"P {command}", "B")
    book.client(*parsed, "E", "p x select 2", "S")
    sent = (f"p howdah_2 {command}", "s howdah_2", "B howdah_2") if named else parsed
    book.to_server(*sent, "E", "H", on=2)
    book.server("1", *(("t", "n") if named else ()), "2", on=2)
    book.to_client()
    book.to_server("H", on=2)
    book.server("C DISCARD ALL", on=2)
    number = 3 if named else 2
    book.to_server(f"p howdah_{number} select 2", f"s howdah_{number}", "S", on=2)
    book.server("1", "t", "T", "Z I", on=2)
    book.to_client("1", "2", "C DISCARD ALL", "1", "Z I")
    use(book, at=f"howdah_{number}", on=2)


@pytest.mark.parametrize("end", ["E", "S"])
@pytest.mark.parametrize("sql", [("Q deallocate x",), ("P deallocate x", "B", "E", "S")])
def test_a_deallocate_waits_for_what_may_have_freed_the_name(end: str, sql: tuple[str, ...]) -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("P discard all", "B", "E", *(("S",) if end == "S" else ()), *sql)
    book.wire(2).take()
    book.server("1", "2", "C DISCARD ALL", *(("Z I",) if end == "S" else ()), on=2)
    book.to_server(*(sql if len(sql) == 1 else ("E", "S")), on=2)


def test_a_name_that_the_server_lacks_is_in_the_way_at_once_where_nothing_frees_it() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("P discard plans", "B", "E", "p x select 2", "S")
    book.to_server("P discard plans", "B", "E", "p howdah_2 COMMIT", "p howdah_2 select 2", "S", on=2)
