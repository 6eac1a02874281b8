"""The model of prepared statements holds at PostgreSQL, and through Howdah with two servers for all."""

import copy

import pytest

from tests.conformance.model.author import Author, Migration, Step, Talk
from tests.conformance.model.catalogue import DATE, Failure, World, analysed, echo, star, typed
from tests.conformance.model.choices import Choices, PostgreSQL, ways
from tests.conformance.model.messages import Bind, Describe, Execute, Parse, Query, Sync, same
from tests.conformance.model.play import Difference, predicted
from tests.conformance.model.session import Session
from tests.conformance.model.shrink import shrunk
from tests.conformance.model.stage import at_howdah, at_postgresql
from tests.support.postgres import PostgresServer

STEPS = 2_000
SEEDS = (1, 4, 71)


@pytest.mark.slow
def test_the_model_holds_at_postgresql(postgres: PostgresServer) -> None:
    with at_postgresql(postgres) as play:
        play.run(Author(1).steps(STEPS))
    assert min(play.counted[kind] for kind in ("Parse", "Bind", "Describe", "Close", "migration")) > 50
    assert {"error 26000", "error 42P05", "error 0A000", "error 42P01"} <= play.counted.keys()


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_holds_through_howdah(postgres: PostgresServer, seed: int) -> None:
    with at_howdah(postgres) as play:
        play.run(Author(seed).steps(STEPS))
    assert min(play.counted[f"trouble: {kind}"] for kind in ("reconnect", "kill", "few", "many")) > 0


def test_a_pooler_that_does_not_keep_statements_is_found_out(postgres: PostgresServer) -> None:
    with at_howdah(postgres, max_prepared_statements=0) as play, pytest.raises(Difference):
        play.run(step for step in Author(1).steps(STEPS) if isinstance(step, Talk))


# --- the model by itself -------------------------------------------------------------------------------


def replies(session: Session, world: World, *messages: object, strict: bool = True) -> list[list[object]]:
    """What may be answered, each way through the choices."""
    return [list(predicted(*copy.deepcopy((session, world)), messages, way)) for way in ways(strict=strict)]


PREPARE = (Parse("s", star("shape_0")), Sync())
RUN = (Bind("", "s", ()), Execute(""), Sync())
ASK = (Bind("", "s", ()), Describe("P", ""), Execute(""), Sync())
STALE = ("E", "0A000", "cached plan must not change result type")


@pytest.fixture
def changed() -> tuple[Session, World]:
    """A client that has prepared `select *` before the table changed."""
    session, world = Session("MDY"), World()
    predicted(session, world, PREPARE, PostgreSQL())
    world.change("shape_0", (("n", 23),))
    return session, world


def test_who_does_not_ask_must_be_told(changed: tuple[Session, World]) -> None:
    assert all(STALE in way for way in replies(*changed, *RUN, strict=False))


def test_who_asks_must_be_healed_by_howdah_and_not_by_postgresql(changed: tuple[Session, World]) -> None:
    assert all(STALE not in way for way in replies(*changed, *ASK, strict=False))
    assert replies(*changed, *ASK) == [[STALE, ("Z", "I")]]


def test_in_a_transaction_nobody_need_be_healed(changed: tuple[Session, World]) -> None:
    session, world = changed
    session.query(Query("begin", "begin"))
    assert [STALE, ("Z", "E")] in replies(session, world, *ASK, strict=False)


def test_a_statement_is_read_as_it_was_when_it_was_parsed() -> None:
    session, world = Session("DMY"), World()
    predicted(session, world, (Parse("d", DATE), Sync()), PostgreSQL())
    session.query(Query("set", "set datestyle = 'ISO, MDY'", "MDY"))
    assert ("D", ("31",)) in predicted(session, world, (Bind("", "d", ()), Execute(""), Sync()), PostgreSQL())


def test_what_a_text_answers_tells_which_it_is() -> None:
    assert analysed(echo(3), World()) == ((23,), (("k3", 23),))
    assert analysed(typed(25), World())[0] == (25,)
    with pytest.raises(Failure, match="42P01"):
        analysed(star("shape_0"), World(tables={"shape_0": None}))


def test_choices_are_gone_through_in_turn() -> None:
    seen = []
    way: Choices | None = Choices()
    while way is not None:
        first = way.among("a", "b")
        seen.append(first + (way.among("c", "d") if first == "a" else ""))
        way = way.next()
    assert seen == ["ac", "ad", "b"]


def test_an_error_without_a_text_stands_for_any() -> None:
    assert same([("E", "42601", None)], [("E", "42601", "syntax error")])
    assert not same([("E", "42601", "other")], [("E", "42601", "syntax error")])
    assert not same([("1",)], [("1",), ("1",)])


def test_the_same_seed_writes_the_same_steps() -> None:
    steps = list(Author(3).steps(300))
    assert steps == list(Author(3).steps(300))
    assert any(isinstance(step, Migration) and step.client is None for step in steps)


def test_shrinking_leaves_the_steps_that_matter() -> None:
    steps: list[Step] = list(Author(3).steps(200))
    talks = [step for step in steps if isinstance(step, Talk)]
    needed = {id(talks[5]), id(talks[60])}

    def differs(tried: object) -> bool:
        assert isinstance(tried, list)
        return needed <= {id(step) for step in tried} and tried[-1] is steps[-1]

    assert [id(step) for step in shrunk(steps, differs, 10)] == [id(talks[5]), id(talks[60]), id(steps[-1])]
