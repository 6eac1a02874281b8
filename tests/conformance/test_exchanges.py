"""Short exchanges that random pipelines seldom hit, answered as by PostgreSQL.

Law: every scene has a pool of its own, and leaves no table behind.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.conformance.differential.normal import Normaliser
from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.alive import BYSTANDER
from tests.support.messages import Message
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import entry, howdah_only
from tests.support.target import Target
from tests.support.wire import Raw

pytestmark = howdah_only("other poolers do not promise it")

_SILENCE = 0.5
Step = tuple[str, bytes, bool]
"""Who sends what, and whether that is answered up to a ReadyForQuery; else nothing may come."""


class Scene(NamedTuple):
    """`servers`: how many its clients share."""

    servers: int
    steps: Sequence[Step]


def q(who: str, sql: str) -> Step:
    return who, m.query(sql), True


def x(who: str, *parts: bytes) -> Step:
    return who, b"".join(parts) + m.sync(), True


def unanswered(who: str, *parts: bytes) -> Step:
    return who, b"".join(parts), False


def run(name: str) -> bytes:
    return m.bind("", name) + m.execute()


def described(name: str) -> bytes:
    return m.bind("", name) + m.describe(b"P") + m.execute()


def prepared(name: str, number: int) -> bytes:
    """One of several statements without rows, which may also be described in a failed transaction."""
    return m.parse(name, f"set local statement_timeout = {number}000")


FORGET_T = m.parse("", 'deallocate "t"') + run("")
FIVE = [f"s{number}" for number in range(5)]
INSTANT = "select extract(epoch from timestamptz '2001-02-03 04:05:06')"

SCENES = {
    "more statements than a server keeps": Scene(
        1,
        [
            *(x("a", m.parse(name, f"select '{name}'")) for name in FIVE),
            x("a", *(described(name) for name in FIVE)),
            x("b", m.parse("t", "select 'another'"), described("t")),
            x("a", *(described(name) for name in FIVE)),
            x("a", *(described(name) for name in reversed(FIVE))),
        ],
    ),
    "more statements than a server keeps, in a failed transaction": Scene(
        1,
        [
            q("a", "begin"),
            x("a", *(prepared(name, number) for number, name in enumerate(FIVE))),
            q("a", "select 1/0"),
            x("a", *(m.describe(b"S", name) for name in FIVE)),
            q("a", "rollback"),
            x("a", *(described(name) for name in FIVE)),
        ],
    ),
    "the unnamed statements of two clients": Scene(
        1,
        [
            x("a", m.parse("", "select 'of a'")),
            x("b", m.parse("", "select 'of b'")),
            x("a", m.describe(b"S"), described("")),
            x("b", described("")),
            q("b", "select 'no more'"),
            x("a", described("")),
            x("b", described("")),
        ],
    ),
    "a known text in a failed transaction": Scene(
        1,
        [
            x("a", m.parse("s", "select 'known'")),
            q("a", "begin"),
            q("a", "select 1/0"),
            x("a", m.parse("t", "select 'known'")),
            x("a", run("s")),
            q("a", "rollback"),
            x("a", run("t")),
            x("a", m.parse("t", "select 'known'"), run("t")),
        ],
    ),
    "silence before Sync on a server that lacks the statement, behind a change of the schema": Scene(
        2,
        [
            x("a", m.parse("s", "select 'looked at again'")),
            q("a", "create table scene(n int); drop table scene"),
            q("b", "begin"),
            unanswered("a", m.parse("", "select 1"), m.bind("", "s")),
            x("a", m.describe(b"P"), m.execute()),
            q("b", "commit"),
        ],
    ),
    "an unnamed statement that stays because the next one was discarded, on another server": Scene(
        2,
        [
            x("a", m.parse("", "select 'stays'"), m.execute("nowhere"), m.parse("", "select 'discarded'")),
            q("b", "begin"),
            x("a", described("")),
            q("b", "commit"),
        ],
    ),
    "a Close and a DEALLOCATE that were discarded": Scene(
        1,
        [
            x("a", m.parse("s", "select 'stays'")),
            x("a", m.execute("nowhere"), m.close(b"S", "s")),
            x("a", run("s")),
            x("a", m.parse("s", "select 'another'")),
            q("a", "begin"),
            q("a", "select 1/0"),
            q("a", 'deallocate "s"'),
            q("a", "rollback"),
            x("a", run("s")),
        ],
    ),
    "a DEALLOCATE that was discarded, and one that was not": Scene(
        1,
        [
            x("a", m.parse("s", "select 'stays'"), m.parse("t", "select 'goes'")),
            x("a", m.execute("nowhere"), m.parse("", 'deallocate "s"'), run(""), m.sync(), FORGET_T),
            x("a"),
            x("a", run("s")),
            x("a", run("t")),
        ],
    ),
    "a name that becomes free within a group": Scene(
        1,
        [
            x("a", m.parse("s", "select 'before'")),
            x("a", m.parse("", 'deallocate "s"'), run(""), m.parse("s", "select 'behind'"), run("s")),
            x("a", run("s")),
            x("b", m.parse("s", "select 'behind'"), run("s")),
            x("a", run("s"), m.close(b"S", "s"), m.parse("s", "select 'closed before'"), run("s")),
            x("a", run("s")),
            x("a", m.parse("", "deallocate all"), run(""), m.parse("s", "select 'swept before'"), run("s")),
            x("a", run("s")),
        ],
    ),
    "the ends of a COPY where there is none": Scene(
        1,
        [
            x("a", m.parse("", "select generate_series(1, 9)"), m.bind(), m.copy_fail("stray"), m.execute()),
            x("a", m.parse("", "select 1"), m.copy_done(), m.bind(), m.copy_data(b"stray"), m.execute()),
            q("a", "select 'after'"),
        ],
    ),
    "one text in two time zones": Scene(
        1,
        [
            q("a", "set timezone = 'Asia/Tokyo'"),
            q("b", "set timezone = 'America/New_York'"),
            x("a", m.parse("s", INSTANT)),
            x("b", m.parse("s", INSTANT)),
            x("a", run("s")),
            x("b", run("s")),
            x("a", run("s")),
        ],
    ),
    "a text prepared for the first time behind a change of the schema": Scene(
        1,
        [
            q("a", "create table scene(n int)"),
            x("a", m.parse("s", "select * from scene"), m.describe(b"S", "s")),
            q("b", "alter table scene add column v text"),
            x("b", m.parse("s", "select * from scene"), m.describe(b"S", "s")),
            x("b", described("s")),
            q("b", "drop table scene"),
        ],
    ),
    "rows that look different to one who has not asked": Scene(
        1,
        [
            q("a", "create table scene(n int); insert into scene values (1)"),
            x("a", m.parse("s", "select * from scene"), m.describe(b"S", "s")),
            x("a", run("s")),
            q("b", "alter table scene add column v text"),
            x("a", run("s")),
            q("b", "drop table scene"),
        ],
    ),
    "rows that look different on another server, and others that do not": Scene(
        2,
        [
            q("a", "create table scene(n int); insert into scene values (1)"),
            x("a", m.parse("s", "select * from scene"), m.parse("t", "select n from scene")),
            x("a", run("s"), run("t")),
            q("b", "alter table scene add column v text"),
            q("b", "begin"),
            x("a", run("s")),
            x("a", run("t")),
            q("b", "commit"),
            q("b", "drop table scene"),
        ],
    ),
}


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server) -> Pooler:
    sizes = [scene.servers for scene in SCENES.values()]
    pools = {f"scene_{number}": entry(server, pool_size=size) for number, size in enumerate(sizes)}
    return module_launch({**pools, BYSTANDER: entry(server)}, {"max_prepared_statements": 3})


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize(("number", "name"), [*enumerate(SCENES)])
def test_an_exchange_goes_as_with_postgresql(pooler: Pooler, server: Server, number: int, name: str) -> None:
    steps = SCENES[name].steps
    expected = list(played(server, server.database, steps))
    for said, (step, got) in zip(expected, played(pooler, f"scene_{number}", steps), strict=True):
        assert got == said[1], f"{step}: {got} where PostgreSQL says {said[1]}"


FORGET = """
create or replace function forget() returns text language plpgsql as
$$ begin execute 'deallocate all'; return 'forgotten'; end $$
"""


@pytest.mark.usefixtures("alive")
def test_a_statement_that_was_lost_unseen_is_prepared_again_unseen(pooler: Pooler, server: Server) -> None:
    server.sql(FORGET)
    with pooler.raw("scene_0") as client:
        client.ask(m.parse("s", "select 'found again'") + m.sync())
        assert client.value("select forget()") == "forgotten"
        assert m.rows(client.ask(run("s") + m.sync())) == [["found again"]]
        client.rows("begin")
        assert client.value("select forget()") == "forgotten"
        (error,) = m.errors(client.ask(run("s") + m.sync()))
        assert (error["C"], error["M"]) == ("26000", 'prepared statement "s" does not exist')
        client.query("rollback")


@pytest.mark.usefixtures("alive")
@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "on another server"])
def test_who_asks_what_the_rows_look_like_gets_those_of_the_new_schema(
    pooler: Pooler, elsewhere: bool
) -> None:
    """Where PostgreSQL refuses; PgBouncer's clients know no better, and ours need not."""
    database = next(f"scene_{at}" for at, scene in enumerate(SCENES.values()) if scene.servers > 1)
    with pooler.raw(database) as client, pooler.raw(database) as other:
        client.rows("create table scene(n int); insert into scene values (1)")
        client.ask(m.parse("s", "select * from scene") + m.describe(b"S", "s") + m.sync())
        other.rows("alter table scene add column v text")
        if elsewhere:
            other.rows("begin")
        got = client.ask(described("s") + m.sync())
        other.rows("commit")
        other.rows("drop table scene")
    assert m.tags(got) == "2TDCZ"
    assert m.rows(got) == [["1", None]]


@pytest.mark.usefixtures("alive")
def test_a_server_keeps_no_more_statements_than_it_may(pooler: Pooler) -> None:
    with pooler.raw("scene_0") as client:
        client.ask(*(m.parse(name, f"select 'too many, {name}'") for name in FIVE), m.sync())
        assert client.value("select count(*) from pg_prepared_statements") == "3"


def played(target: Target, database: str, steps: Sequence[Step]) -> Iterator[tuple[Step, list[Message]]]:
    """Each step, and what is answered to it."""
    with ExitStack() as stack:
        clients: dict[str, tuple[Raw, Normaliser]] = {}
        for step in steps:
            who, data, answered = step
            if who not in clients:
                clients[who] = stack.enter_context(target.raw(database)), Normaliser()
            client, normal = clients[who]
            client.send(data)
            got = client.until() if answered else []
            assert answered or client.silent_for(_SILENCE), f"not silent behind {step}"
            yield step, [normal(message) for message in got if message.tag != b"S"]
