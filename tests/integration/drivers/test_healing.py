"""Statements that the server has lost, types that are gone, Parses that failed: what is tried again."""

import pytest

from tests.integration.drivers.conftest import ONE
from tests.integration.drivers.crowd import Place
from tests.integration.drivers.jdbc import Jdbc, ServerError
from tests.integration.drivers.shapes import DIRECT, EVERYWHERE, OLD, POOLED, Shapes, shapes
from tests.support import messages as m
from tests.support.server import Server
from tests.support.standard import one_process

__all__ = ["shapes"]

WITH_A_SINGLE_SERVER = pytest.mark.parametrize("place", [ONE], indirect=True)

LOSE_ALL = "do $$ begin execute 'deallocate all'; end $$"
"""Takes all prepared statements from the server, and no command tag tells of it."""

MOOD = "create type {0}_mood as enum ('glad')"
NEW_MOOD = "drop type {0}_mood; " + MOOD


@WITH_A_SINGLE_SERVER
def test_a_statement_that_the_server_has_lost_is_prepared_again_unseen(shapes: Shapes) -> None:
    clients = [shapes.remembering() for _ in range(2)]
    for _ in range(3):
        shapes.migrate(LOSE_ALL)
        for client in clients:
            assert client.look() == OLD


@WITH_A_SINGLE_SERVER
@one_process("a server that comes from another worker gets the statement anew")
def test_a_group_that_was_not_held_is_told_that_its_statement_is_lost(shapes: Shapes) -> None:
    """More than 64 KiB are not kept for a second time; the text speaks of the client's own name."""
    client = shapes.fresh()
    sql = "select length($1) as n"
    assert client.execute(sql, ["x"]) == [(1,)]
    shapes.migrate(LOSE_ALL)
    with pytest.raises(ServerError, match=r'26000: prepared statement "S_\d" does not exist'):
        client.execute(sql, ["x" * 100_000])
    assert client.execute(sql, ["x" * 100_000]) == [(100_000,)]


@WITH_A_SINGLE_SERVER
def test_in_a_transaction_a_lost_statement_is_an_error(shapes: Shapes) -> None:
    client = shapes.remembering()
    with pytest.raises(ServerError, match='26000: prepared statement "S_1" does not exist'):
        lose_in_a_transaction(client)
    client.raw.rows("rollback")
    assert client.look() == OLD


def lose_in_a_transaction(client: Jdbc) -> None:
    client.raw.rows("begin")
    client.raw.rows(LOSE_ALL)
    client.execute(next(iter(reversed(client.statements))))


@EVERYWHERE
def test_a_type_that_was_made_anew_heals_after_the_first_error(
    shapes: Shapes, server: Server, place: Place
) -> None:
    """Here the migration takes another way; PostgreSQL says that the type is gone, each time."""
    shapes.migrate(MOOD)
    sql = f"select $1::{shapes.table}_mood as mood"
    client = shapes.fresh()
    assert client.execute(sql, ["glad"]) == [("glad",)]
    server.sql(NEW_MOOD.format(shapes.table))
    errors: list[str] = []
    for _ in range(4):
        try:
            assert client.execute(sql, ["glad"]) == [("glad",)]
        except ServerError as error:
            errors.append(error.fields["M"].partition(" for ")[0])
            if place.name == DIRECT:
                client.forget_all()
    assert errors in ([], ["cache lookup failed"])


@EVERYWHERE
def test_a_type_that_was_made_anew_before_a_parse_is_the_new_one(shapes: Shapes) -> None:
    shapes.migrate(MOOD)
    sql = f"select $1::{shapes.table}_mood as mood"
    assert shapes.fresh().execute(sql, ["glad"]) == [("glad",)]
    shapes.migrate(NEW_MOOD)
    for _ in range(3):
        assert shapes.fresh().execute(sql, ["glad"]) == [("glad",)]


@EVERYWHERE
def test_a_parse_that_failed_is_never_taken_for_good(shapes: Shapes) -> None:
    """Its name is free, and the text is judged anew once the table exists."""
    sql = f"select * from {shapes.table}_later"
    raw = shapes.fresh().raw
    for _ in range(2):
        got = raw.ask(m.parse("later", sql) + m.describe(b"S", "later") + m.sync())
        assert [each["C"] for each in m.errors(got)] == ["42P01"]
    shapes.migrate("create table {0}_later(n int); insert into {0}_later values (5)")
    run = m.bind("", "later") + m.execute() + m.sync()
    got = raw.ask(m.parse("later", sql) + m.describe(b"S", "later") + run)
    assert m.rows(got) == [["5"]], got
    shapes.migrate("drop table {0}_later")


@EVERYWHERE
def test_a_parse_that_was_skipped_is_never_taken_for_good(shapes: Shapes) -> None:
    """Its name is free, and who uses it is told that there is no such statement."""
    raw = shapes.fresh().raw
    fail = m.parse("", "select 1/0") + m.bind() + m.execute()
    run = m.bind("", "skipped") + m.execute() + m.sync()
    for _ in range(2):
        got = raw.ask(fail + m.parse("skipped", shapes.sql) + run)
        assert [each["C"] for each in m.errors(got)] == ["22012"]
        got = raw.ask(run)
        assert [each["M"] for each in m.errors(got)] == ['prepared statement "skipped" does not exist']
    got = raw.ask(m.parse("skipped", shapes.sql) + run)
    assert m.rows(got) == [["1", "7"]]


@POOLED
def test_what_one_client_lets_go_another_keeps(shapes: Shapes) -> None:
    """DEALLOCATE ALL and DISCARD ALL empty the server; only their sender had names to lose."""
    clients = [shapes.remembering() for _ in range(3)]
    for order in ("DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE PREPARE ALL"):
        clients[0].raw.rows(order)
        with pytest.raises(ServerError, match=r'26000: prepared statement "S_\d+" does not exist'):
            clients[0].look()
        clients[0].forget_all()
        assert clients[0].look() == OLD
        for client in clients[1:]:
            assert client.look() == OLD
