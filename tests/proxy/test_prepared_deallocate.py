"""DEALLOCATE, DISCARD ALL and PREPARE in SQL: they mean the names of the protocol, too."""

import pytest

from tests.support.named import NOTHING, elsewhere, is_gone, prepare, run, two_servers, unknown, use
from tests.support.playbook import Playbook

ABORTED = "E 25P02 current transaction is aborted"


def instead(number: int = 2) -> tuple[str, str]:
    """What is sent in the place of a DEALLOCATE: it has its reply, and fails where that fails."""
    return f"p howdah_{number} COMMIT", f"Q DEALLOCATE howdah_{number}"


# As a simple query.


@pytest.mark.parametrize(
    "query", ["deallocate x", "DEALLOCATE PREPARE X;", 'deallocate /* it */ "x" -- now', "\ndeallocate x"]
)
@pytest.mark.parametrize("there", [True, False])
def test_another_is_deallocated_on_the_server_in_the_place_of_a_name(query: str, there: bool) -> None:
    on = 1 if there else 2
    book = two_servers()
    prepare(book)
    if not there:
        elsewhere(book)
    book.client(f"Q {query}")
    book.to_server(*instead(), on=on)
    book.server("1", "C DEALLOCATE", "Z I", on=on)
    book.to_client("C DEALLOCATE", "Z I")
    is_gone(book, on=on)
    prepare(book, at="howdah_3", text="select 2", on=on)


def test_what_is_deallocated_stays_for_others() -> None:
    book = Playbook()
    prepare(book)
    prepare_known(book, "y", by="b")
    book.client("Q deallocate x")
    book.server("1", "C DEALLOCATE", "Z I")
    book.to_server(*instead())
    use(book, "y", by="b")


def prepare_known(book: Playbook, name: str, *, by: str = "a") -> None:
    """A client prepares what the server has."""
    book.client(f"p {name} select 1", "S", by=by)
    book.to_server(NOTHING, "S")
    book.server("3", "Z I")
    book.to_client("1", "Z I", by=by)


def test_another_name_for_the_same_text_stays() -> None:
    book = Playbook()
    prepare(book)
    prepare_known(book, "y")
    book.client("Q deallocate y")
    book.to_server(*instead())
    book.server("1", "C DEALLOCATE", "Z I")
    book.to_client("C DEALLOCATE", "Z I")
    use(book)
    book.client("Q deallocate x")
    book.to_server(*instead(3))
    book.server("1", "C DEALLOCATE", "Z I")
    book.to_client("C DEALLOCATE", "Z I")
    is_gone(book)


def test_a_name_that_is_not_there_is_left_to_postgresql() -> None:
    book = Playbook()
    prepare(book)
    for query in ("Q deallocate y", "Q deallocate x; select 1", "Q select 1"):
        sent = book.client(query)
        assert book.wire().parts[-1] == [sent]
        book.to_server(query)
        book.server(unknown("y"), "Z I")
        book.to_client(unknown("y"), "Z I")
    use(book)


@pytest.mark.parametrize("there", [True, False])
def test_in_a_failed_transaction_nothing_is_deallocated(there: bool) -> None:
    on = 1 if there else 2
    book = two_servers()
    prepare(book)
    if not there:
        elsewhere(book)
    book.client("Q begin", "Q bad")
    book.server("C BEGIN", "Z T", "E 42601 bad", "Z E", on=on)
    book.to_server("Q begin", "Q bad", on=on)
    book.to_client("C BEGIN", "Z T", "E 42601 bad", "Z E")
    book.client("Q deallocate x")
    book.to_server(*instead(), on=on)
    book.server("1", ABORTED, "Z E", on=on)
    book.to_client(ABORTED, "Z E")
    run(book, "rollback", "ROLLBACK", by="a", on=on)
    book.client("B x", "S")
    if there:
        book.to_server("C howdah_2", "B howdah_1", "S")
    else:
        book.to_server("C howdah_2", "p howdah_3 select 1", "B howdah_3", "S", on=2)


@pytest.mark.parametrize("there", [True, False])
def test_a_deallocate_that_is_discarded_after_an_error_deallocates_nothing(there: bool) -> None:
    on = 1 if there else 2
    book = two_servers()
    prepare(book)
    if not there:
        elsewhere(book)
    book.client("P bad", "Q deallocate x", "S")
    book.to_server("P bad", *instead(), "S", on=on)
    book.server("E 42601 bad", "Z I", on=on)
    book.to_client("E 42601 bad", "Z I")
    book.client("B x", "S")
    called = ("B howdah_1",) if there else ("p howdah_3 select 1", "B howdah_3")
    book.to_server("C howdah_2", *called, "S", on=on)


def test_what_is_asked_of_a_name_behind_its_deallocate_waits() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("Q deallocate x", "B x", "S")
    book.to_server(*instead(), on=2)
    book.server("1", "C DEALLOCATE", "Z I", on=2)
    book.to_server("B howdah_0", "S", on=2)


def test_a_name_is_gone_although_another_has_the_same_text() -> None:
    book = two_servers()
    prepare(book)
    book.client("Q deallocate x", "p y select 1", "B x", "S")
    book.to_server(*instead(), "p howdah_3 select 1")
    book.server("1", "C DEALLOCATE", "Z I", "1")
    book.to_server("B howdah_0", "S")
    book.server(unknown("howdah_0"), "Z I")
    book.to_client("C DEALLOCATE", "Z I", "1", unknown("x"), "Z I")


def test_a_second_deallocate_waits_for_the_first() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q deallocate x", "Q deallocate x")
    book.to_server(*instead())
    book.server("1", "C DEALLOCATE", "Z I")
    book.to_server("Q deallocate x")
    book.server(unknown("x"), "Z I")
    book.to_client("C DEALLOCATE", "Z I", unknown("x"), "Z I")


def test_a_name_closed_in_the_same_group_is_not_there_to_be_deallocated() -> None:
    book = Playbook()
    prepare(book)
    book.client("C x", "Q deallocate x")
    book.to_server("C x", "Q deallocate x")
    book.server("3", unknown("x"), "Z I")
    book.to_client("3", unknown("x"), "Z I")
    is_gone(book)


def test_a_name_that_something_else_has_freed_is_free() -> None:
    """A function may deallocate, too; then the Parse of a taken name succeeds."""
    book = Playbook()
    prepare(book)
    book.client("p x select 2", "B x", "S")
    book.to_server("p howdah_1 select 2", "B howdah_1", "S")
    book.server("1", "2", "Z I")
    book.to_client("1", "2", "Z I")
    use(book)
    wanted = {text.text: text.clients for text in book.pool.statements.statements.values()}
    assert wanted == {b"select 1\0\0\0": 0, b"select 2\0\0\0": 1}


# All of them.


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("extended", [True, False])
def test_all_names_are_gone_and_the_server_s_too(command: str, extended: bool) -> None:
    book = Playbook()
    prepare(book)
    prepare(book, "y", "select 2", at="howdah_2")
    prepare_known(book, "z", by="b")
    if extended:
        book.client(f"P {command}", "B", "E", "S")
        book.to_server(f"P {command}", "B", "E", "S")
        book.server("1", "2", f"C {command}", "Z I")
        book.to_client("1", "2", f"C {command}", "Z I")
    else:
        run(book, command, command, by="a")
    is_gone(book)
    book.client("B z", "S", by="b")
    book.to_server("p howdah_3 select 1", "B howdah_3", "S")
    book.server("1", "2", "Z I")
    book.to_client("2", "Z I", by="b")


def test_what_is_prepared_behind_it_stays() -> None:
    book = Playbook()
    prepare(book, "old")
    book.client("P discard all", "B", "E", "p x select 2", "S")
    book.to_server("P discard all", "B", "E", "p howdah_2 select 2", "s howdah_2", "S")
    book.server("1", "2", "C DISCARD ALL", "1", "t", "T", "Z I")
    book.to_client("1", "2", "C DISCARD ALL", "1", "Z I")
    use(book, at="howdah_2")
    book.client("B old", "S")
    book.to_server("B howdah_0", "S")


def test_a_taken_name_is_free_behind_it() -> None:
    """The Parse goes under the name that is in the way; so PostgreSQL decides whether it is."""
    book = Playbook()
    prepare(book)
    book.client("P discard all", "B", "E", "p x select 2", "B x", "S")
    book.to_server("P discard all", "B", "E", "p howdah_1 select 2", "B howdah_1", "S")
    book.server("1", "2", "C DISCARD ALL", "1", "2", "Z I")
    book.to_client("1", "2", "C DISCARD ALL", "1", "2", "Z I")
    use(book)
    wanted = {text.text: text.clients for text in book.pool.statements.statements.values()}
    assert wanted == {b"select 1\0\0\0": 0, b"select 2\0\0\0": 1}


def test_a_name_that_is_being_closed_is_gone_too() -> None:
    book = two_servers()
    prepare(book)
    elsewhere(book)
    book.client("P discard all", "B", "E", "C x", "S")
    book.to_server("P discard all", "B", "E", "C x", "S", on=2)
    book.server("1", "2", "C DISCARD ALL", on=2)
    assert not book.session().prepared.names  # type: ignore[union-attr]
    book.server("3", "Z I", on=2)
    book.to_client("1", "2", "C DISCARD ALL", "3", "Z I")


def test_a_name_that_is_being_replaced_is_gone_and_counted_once() -> None:
    book = Playbook()
    prepare(book)
    book.client("Q discard all", "E", "C x", "p x select 2", "S")
    book.to_server("Q discard all", "E", "C x", "p howdah_2 select 2", "s howdah_2", "S")
    book.server("C DISCARD ALL", "Z I", "E 34000 no portal", "Z I")
    assert not book.session().prepared.names  # type: ignore[union-attr]
    assert [text.clients for text in book.pool.statements.statements.values()] == [0, 0]


# PREPARE.


def test_what_sql_prepares_can_be_called_while_the_client_keeps_the_server() -> None:
    book = Playbook()
    book.client("Q begin", "Q prepare s as select 1")
    book.server("C BEGIN", "Z T", "C PREPARE", "Z T")
    book.to_server("Q begin", "Q prepare s as select 1")
    book.client("s s", "B s", "E", "B howdah_9", "S")
    book.to_server("s s", "B s", "E", "B howdah_0", "S")
    book.server("t", "T", "2", "D 1", "C SELECT 1", unknown("howdah_0"), "Z E")
    book.client("Q rollback")
    book.server("C ROLLBACK", "Z I")
    book.to_server("Q rollback")
    book.client("B s", "S")
    book.to_server("B howdah_0", "S")
