"""One script, two stages: PostgreSQL directly, and through the pooler. The replies must be the same.

What may differ is taken out first, as in the comparison of random pipelines, and
the order in which ParameterStatus comes.
"""

import threading
from collections.abc import Sequence

import pytest

from tests.conformance.differential.normal import Normaliser
from tests.support import messages as m
from tests.support.messages import Message
from tests.support.pooler import Pooler
from tests.support.server import Server
from tests.support.standard import ONE, SESSION_ONE
from tests.support.target import Target

pytestmark = pytest.mark.usefixtures("alive")

Step = tuple[bytes, str]
"""What to send, and the tag that ends the reply (empty: nothing may come)."""


def q(sql: str) -> Step:
    return m.query(sql), "Z"


def x(*parts: bytes) -> Step:
    return b"".join(parts) + m.sync(), "Z"


def flushed(*parts: bytes, end: str) -> Step:
    return b"".join(parts) + m.flush(), end


SCRIPTS: dict[str, list[Step]] = {
    "simple queries": [
        q("select 1"),
        q(""),
        q(";"),
        q("select 1; select 'a' as b, null; values (1, 2), (3, 4)"),
        q("select where false"),
        q("select repeat('x', 100000)"),
        q("create schema scripted; drop schema scripted"),
        q("drop table if exists nothing_like_it"),
    ],
    "errors": [
        q("selekt"),
        q("select 1/0"),
        q("select * from nothing_like_it"),
        q("select 1; select 1/0; select 2"),
        q("do $$ begin raise exception 'mine' using errcode = 'AB123', hint = 'h', detail = 'd'; end $$"),
        q("select 'after'"),
    ],
    "notices and warnings": [
        q("do $$ begin raise notice 'n'; raise warning 'w'; raise info 'i'; end $$"),
        q("commit"),
        q("rollback"),
        q("set client_min_messages = debug1"),
        q("reset client_min_messages"),
    ],
    "transactions": [
        q("begin"),
        q("select 1"),
        q("savepoint a"),
        q("select 1/0"),
        q("select 1"),
        q("rollback to a"),
        q("select 2"),
        q("commit"),
        q("begin; select 1/0"),
        q("commit"),
        q("begin; begin"),
        q("commit and chain"),
        q("rollback"),
    ],
    "parameters": [
        q("set timezone = 'Asia/Tokyo'"),
        q("set datestyle = 'German'"),
        q("select timestamp '2001-02-03 04:05:06'"),
        q("set client_encoding = 'LATIN1'"),
        q("select chr(233)"),
        q("set client_encoding = 'UTF8'"),
        q("begin; set timezone = 'UTC'"),
        q("rollback"),
        q("show timezone"),
        q("set timezone = 'Nowhere'"),
        q("reset timezone"),
        q("reset datestyle"),
    ],
    "extended queries": [
        x(m.parse("", "select $1::int + 1, $2::text"), m.describe(b"S"), m.bind(values=["41", None])),
        x(m.parse("", "select 1"), m.bind(), m.describe(b"P"), m.execute()),
        x(m.bind(values=["1"]), m.execute()),
        x(m.parse("", "select $1::int"), m.bind(values=["not a number"]), m.execute()),
        x(m.parse("", ""), m.bind(), m.describe(b"P"), m.execute()),
        x(m.parse("", "insert into nothing_like_it values (1)"), m.bind(), m.execute()),
        x(m.parse("", "select 1; select 2"), m.bind(), m.execute()),
        x(m.parse("", "select generate_series(1, 10)"), m.bind(), m.execute(max_rows=3), m.execute()),
        x(),
        q("select 'after'"),
    ],
    "portals": [
        q("begin"),
        x(m.parse("", "select generate_series(1, 5)"), m.bind("cursor"), m.execute("cursor", 2)),
        x(m.execute("cursor", 2)),
        x(m.close(b"P", "cursor"), m.execute("cursor")),
        q("rollback"),
        q("begin; declare c cursor for select generate_series(1, 3)"),
        q("fetch 2 from c; fetch all from c; fetch c"),
        q("commit"),
    ],
    "flushes": [
        flushed(m.parse("", "select $1::text"), end="1"),
        flushed(m.describe(b"S"), end="T"),
        flushed(m.bind(values=["x"]), end="2"),
        flushed(m.execute(), end="C"),
        flushed(end=""),
        x(),
        flushed(m.parse("", "selekt"), end="E"),
        (m.query("select 'skipped'") + m.parse("", "select 1") + m.flush(), ""),
        x(),
        q("select 'after'"),
    ],
    "copy": [
        (m.query("copy script from stdin"), "G"),
        (m.copy_data(b"1\ta\n2\t\\N\n") + m.copy_done(), "Z"),
        (m.query("copy script from stdin"), "G"),
        (m.copy_data(b"x\n") + m.copy_done(), "Z"),
        (m.query("copy script from stdin"), "G"),
        (m.copy_fail("no more"), "Z"),
        (m.parse("", "copy script from stdin") + m.bind() + m.execute() + m.sync(), "G"),
        (m.copy_data(b"3\tb\n") + m.sync() + m.copy_done() + m.sync(), "Z"),
        q("copy script to stdout"),
        q("select * from script order by n"),
    ],
    "copy of what does not exist": [
        (m.query("copy nothing_like_it from stdin"), "Z"),
        (m.copy_data(b"1\n") + m.copy_done() + m.query("select 1"), "Z"),
    ],
    "function calls": [
        (m.function_call(177, [m.int32(1), m.int32(2)]), "Z"),
        (m.function_call(154, [m.int32(1), m.int32(0)]), "Z"),
        (m.function_call(177, [m.int32(1)]), "Z"),
        q("select 'after'"),
    ],
    "many at once": [
        (b"".join(m.one_shot(f"select {n}") for n in range(50)), "Z" * 50),
        (b"".join(m.query(f"select {n}; select {n} / {n % 7}") for n in range(50)), "Z" * 50),
    ],
    "binary and long": [
        x(m.parse("", "select $1::bytea"), m.bind(values=["\\x00ff00"]), m.execute()),
        q("select " + ", ".join(f"{n} as c{n}" for n in range(1000))),
        q("select '" + "ä" * 50_000 + "'"),
    ],
    "named statements in a transaction": [
        q("begin"),
        x(m.parse("s", "select $1::int * 2")),
        x(m.bind("", "s", ["21"]), m.describe(b"P"), m.execute()),
        x(m.describe(b"S", "s")),
        x(m.close(b"S", "s")),
        q("rollback"),
    ],
}

SESSION_ONLY: dict[str, list[Step]] = {
    "named statements": [
        x(m.parse("s", "select $1::int * 2")),
        x(m.bind("", "s", ["21"]), m.describe(b"P"), m.execute()),
        x(m.parse("s", "select 2")),
        x(m.bind("", "nothing_like_it"), m.execute()),
        x(m.describe(b"S", "nothing_like_it")),
        x(m.close(b"S", "s"), m.close(b"S", "s")),
        x(m.bind("", "s", ["21"]), m.execute()),
        q("prepare p as select 1; execute p; deallocate p; execute p"),
        q("deallocate all; discard all"),
    ],
    "session state": [
        q("set work_mem = '1234kB'"),
        q("show work_mem"),
        q("create temp table state(n int)"),
        q("listen nothing"),
        q("notify nothing, 'payload'"),
        q("unlisten *"),
        q("select pg_advisory_lock(9), pg_advisory_unlock(9)"),
        q("discard all"),
        q("show work_mem"),
    ],
}


def played(target: Target, database: str, script: Sequence[Step]) -> list[list[Message]]:
    """The normalised replies, step by step."""
    normalise = Normaliser()
    replies = []
    with target.raw(database) as client:
        for data, ends in script:
            sender = threading.Thread(target=client.send, args=(data,))
            sender.start()
            got = [message for end in ends for message in client.until(end.encode(), within=20)]
            sender.join()
            if not ends:
                assert client.silent_for(0.2)
            status = sorted((m for m in got if m.tag == b"S"), key=lambda m: m.body)
            replies.append([*(normalise(m) for m in got if m.tag != b"S"), *status])
        assert client.silent_for(0.05), "more than was asked for"
        client.quit()
    return replies


@pytest.fixture(autouse=True)
def table(server: Server) -> None:
    """An ordinary table script(n, t)."""
    server.sql("create table if not exists script(n int, t text)")
    server.sql("grant all on script to public")
    server.sql("truncate script")


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_replies_are_those_of_postgresql(pooler: Pooler, server: Server, database: str, name: str) -> None:
    through = played(pooler, database, SCRIPTS[name])
    server.sql("truncate script")
    assert through == played(server, server.database, SCRIPTS[name])


@pytest.mark.parametrize("name", SESSION_ONLY)
def test_replies_in_session_mode_are_those_of_postgresql(pooler: Pooler, server: Server, name: str) -> None:
    script = SESSION_ONLY[name]
    assert played(pooler, SESSION_ONE, script) == played(server, server.database, script)


@pytest.mark.parametrize("database", [ONE, SESSION_ONE])
def test_the_welcome_is_that_of_postgresql(pooler: Pooler, server: Server, database: str) -> None:
    with pooler.raw(database) as client, server.raw() as direct:
        assert client.greeting.parameters.keys() == direct.greeting.parameters.keys()
        assert client.greeting.notices == direct.greeting.notices
