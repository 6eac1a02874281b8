"""The shapes of which scripts consist: what drivers do, and what no driver does.

Law: a part may begin and end in any state of the session; what follows must not count on its success.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tests.conformance.differential import texts
from tests.conformance.differential.texts import Text, on
from tests.support import messages as m

if TYPE_CHECKING:
    from tests.conformance.differential.author import Author

INT4PL, INT4DIV = 177, 154
"""Functions by object id: + and / of integers."""


def simple(author: "Author") -> None:
    author.say(m.query(author.sql()), wait=author.chance.random() < 0.3)


def mixture(author: "Author") -> None:
    """Messages of the extended protocol in any order, most often with a Sync at the end."""
    chance = author.chance
    for _ in range(chance.randrange(1, 14)):
        message(author)
    if chance.random() < 0.9:
        author.end()


def message(author: "Author") -> None:
    """Any one message of the extended protocol."""
    chance = author.chance
    if author.rules.copying:
        author.say(chance.choice((m.copy_done(), m.copy_fail("no more"), m.flush(), m.sync())))
        return
    match chance.choice("PPBBBDDEEEHCS" if chance.random() < 0.95 else "QF"):
        case "P":
            author.parse("" if chance.random() < 0.3 else author.new_name(), author.text())
        case "B":
            any_bind(author)
        case "D":
            any_describe(author)
        case "E":
            author.say(m.execute(author.portal(), chance.choice((0, 0, 2))))
        case "H":
            author.say(m.flush(), wait=chance.random() < 0.5)
        case "C":
            close(author)
        case "S":
            author.say(m.sync())
        case _:
            chance.choice((simple, call))(author)


def any_bind(author: "Author") -> None:
    name = author.name()
    if chance_of(author, 0.3):
        name = ""
    author.bind(author.portal(), name, author.known.get(name))


def any_describe(author: "Author") -> None:
    if not (chance_of(author, 0.5) and author.say(m.describe(b"P", author.portal()))):
        author.say(m.describe(b"S", author.chance.choice(("", author.name()))))


def close(author: "Author") -> None:
    """Close a statement or a portal, known or not."""
    name = author.chance.choice((author.name(), author.name(), "", texts.NOBODY))
    if chance_of(author, 0.3):
        author.say(m.close(b"P", author.portal()))
        return
    author.say(m.close(b"S", name))
    author.known.pop(name, None)


def chance_of(author: "Author", probability: float) -> bool:
    return author.chance.random() < probability


def run(author: "Author", name: str, text: Text | None) -> None:
    """Bind and Execute, in one of the usual forms."""
    chance = author.chance
    portal = author.portal()
    author.bind(portal, name, text)
    if chance.random() < 0.5:
        author.say(m.describe(b"P", portal))
    for _ in range(chance.choice((1, 1, 1, 2))):
        author.say(m.execute(portal, chance.choice((0, 0, 0, 2))))
        end_copy(author)
    if chance.random() < 0.1:
        author.say(m.close(b"P", portal))


def end_copy(author: "Author") -> None:
    """No data for a COPY that may have begun."""
    if author.rules.copying:
        author.say(author.chance.choice((m.copy_done(), m.copy_fail("no more"))))


def prepared(author: "Author") -> None:
    """What drivers do with a named statement: prepare it once, run it again and again."""
    chance = author.chance
    name = author.name()
    text = author.known.get(name)
    if text is None or chance.random() < 0.15:
        text = author.text()
        author.parse(name, text)
        text = author.known.get(name, text)
        if chance.random() < 0.6:
            author.say(m.describe(b"S", name))
        if chance.random() < 0.6:
            author.end()
    for _ in range(chance.choice((1, 1, 2, 4))):
        run(author, name, text)
        if chance.random() < 0.7:
            author.end()
    if chance.random() < 0.15:
        author.say(m.close(b"S", name))
        author.known.pop(name, None)
    author.end()


def unnamed(author: "Author") -> None:
    """One-shot statements, several in a group."""
    for _ in range(author.chance.choice((1, 1, 1, 3))):
        text = author.text()
        author.parse("", text)
        if chance_of(author, 0.2):
            author.say(m.describe(b"S"))
        run(author, "", text)
    author.end()


def flushed(author: "Author") -> None:
    """Step by step with Flushes, as drivers do that look at a description before they bind."""
    chance = author.chance
    name = "" if chance.random() < 0.3 else author.name()
    text = author.known.get(name)
    if text is None or chance.random() < 0.2:
        text = author.text()
        author.parse(name, text)
    author.say(m.describe(b"S", name))
    author.say(m.flush(), wait=True)
    if chance.random() < 0.2:
        author.parse(author.new_name(), author.text())
        author.say(m.flush(), wait=True)
    run(author, name, text)
    if chance.random() < 0.7:
        author.say(m.flush(), wait=True)
    if chance.random() < 0.9:
        author.end()


def call(author: "Author") -> None:
    """FunctionCall: a sum, a division by zero, or an argument too few."""
    one, zero = m.int32(1), m.int32(0)
    calls = ((INT4PL, [one, one]), (INT4PL, [one, one]), (INT4DIV, [one, zero]), (INT4PL, [one]))
    author.say(m.function_call(*author.chance.choice(calls)))


def stray(author: "Author") -> None:
    """What belongs to a COPY, where there is none."""
    pieces = (m.copy_data(b"1\tstray\n"), m.copy_done(), m.copy_fail("stray"), m.flush())
    for _ in range(author.chance.choice((1, 1, 2))):
        author.say(author.chance.choice(pieces))
    # Data followed by nothing but a Sync might be taken for that of a COPY.
    author.say(m.copy_done())


def block(author: "Author") -> None:
    """A transaction from its begin to its end, in which the session is sure to keep its server."""
    chance = author.chance
    author.end()
    author.say(m.query("begin"))
    inner: Sequence[Callable[[Author], None]] = (
        prepared, unnamed, across_groups, flushed, cursor, copy_in, copy_out, savepoint, call, fault, stray,
        deallocate, sql_prepare,
    )  # fmt: skip
    for _ in range(chance.choice((1, 2, 2, 3, 5))):
        chance.choice(inner)(author)
    author.end()
    author.say(m.query(chance.choice(("commit", "commit", "rollback"))))


def across_groups(author: "Author") -> None:
    """The unnamed statement, and a named portal, from one group to the next."""
    text = author.text()
    author.parse("", text)
    author.end()
    portal = author.chance.choice(texts.PORTALS)
    author.bind(portal, "", text)
    author.say(m.execute(portal, 1))
    author.end()
    author.say(m.describe(b"P", portal))
    author.say(m.execute(portal))
    author.say(m.close(b"P", portal))
    author.end()


def cursor(author: "Author") -> None:
    author.say(m.query(texts.CURSORS[0]))
    for _ in range(author.chance.choice((1, 2, 3))):
        if chance_of(author, 0.3):
            author.say(m.execute("c", 2))
            author.end()
        else:
            author.say(m.query(author.chance.choice(texts.CURSORS)))


def savepoint(author: "Author") -> None:
    author.say(m.query(author.chance.choice(texts.SAVEPOINTS).sql))


def fault(author: "Author") -> None:
    """An error in a transaction block, by either protocol."""
    text = author.chance.choice(texts.FAILING).at(author.slot)
    if chance_of(author, 0.5):
        author.say(m.query(text.sql))
    else:
        author.parse("", text)
        run(author, "", text)
        author.end()


def deallocate(author: "Author") -> None:
    """Forget statements by SQL, in either protocol; then use what was forgotten, perhaps."""
    chance = author.chance
    name = author.name()
    everything = chance.random() < 0.4
    sql = chance.choice(texts.FORGET_ALL if everything else texts.deallocations(name))
    change(author, sql)
    if chance.random() < 0.5:
        run(author, name, author.known.get(name))
        author.end()
    if chance.random() < 0.7:
        if everything:
            author.known.clear()
        author.known.pop(name, None)


def sql_prepare(author: "Author") -> None:
    """SQL's own PREPARE, within one transaction."""
    author.prepared += 1
    name = f"q{author.seed:07}_{author.prepared}"
    made = (f"prepare {name} as select 1", f"prepare {name}(int) as select $1 + 1")
    runs = (f"execute {name}", f"execute {name}(1)", f"execute {name}('x')")
    words = [author.chance.choice(made), author.chance.choice(runs), f"deallocate {name}"]
    if not author.rules.in_block or chance_of(author, 0.3):
        author.say(m.query("; ".join(words)))
        return
    for sql in words:
        author.say(m.query(sql))


def zoned(author: "Author") -> None:
    """A literal that PostgreSQL reads by the settings at its Parse, and shows by those at its Execute."""
    chance = author.chance
    name = author.name()
    for turn in range(chance.choice((1, 2, 3))):
        if chance.random() < 0.7:
            change(author, chance.choice(texts.ZONES))
        if turn == 0 or chance.random() < 0.2:
            author.parse(name, texts.LITERAL)
        if chance.random() < 0.4:
            author.end()
        run(author, name, author.known.get(name))
        if chance.random() < 0.8:
            author.end()


def long(author: "Author") -> None:
    """A text or a value of more than fits into one read of anybody."""
    filling = "x" * author.chance.choice((texts.LONG, 9000, 5000))
    text = Text(f"select length('{filling}')")
    name = author.name()
    if chance_of(author, 0.5):
        author.parse(name, text)
        run(author, name, author.known.get(name))
    else:
        author.parse("", Text("select length($1::text)"))
        author.say(m.bind("", "", [filling]))
        author.say(m.execute())
    author.end()


def ddl(author: "Author") -> None:
    """Make, change and drop the table of one's own, among statements on it that were prepared before."""
    chance = author.chance
    if chance.random() < 0.5:
        author.say(m.query(on(texts.DDL[0], author.slot)))
    used = [name for name, text in author.known.items() if f"x{author.slot}" in text.sql]
    if not used or chance.random() < 0.3:
        name, text = author.new_name(), chance.choice(texts.ON_X).at(author.slot)
        author.parse(name, text)
        author.end()
        used.append(name)
    for sql in chance.choices(texts.DDL, k=chance.choice((1, 1, 2))):
        change(author, on(sql, author.slot))
        name = chance.choice(used)
        run(author, name, author.known.get(name))
        author.end()


def change(author: "Author", sql: str) -> None:
    """One command, by either protocol."""
    if chance_of(author, 0.7):
        author.say(m.query(sql))
    else:
        author.parse("", Text(sql))
        run(author, "", None)
        author.end()


def copy_out(author: "Author") -> None:
    change(author, on(author.chance.choice(texts.COPIES[4:]).sql, author.slot))


def copy_in(author: "Author") -> None:
    """A COPY FROM, right or wrong, by either protocol; its data comes before or after the server asks."""
    chance = author.chance
    sql = chance.choice(texts.COPIES[:4]).sql
    rows = texts.GOOD_ROWS.get(sql, ("1\n",))
    extended = chance.random() < 0.6
    if extended:
        start(author, on(sql, author.slot))
    else:
        again = "; select 1" if chance.random() < 0.2 else ""
        author.say(m.query(on(sql, author.slot) + again), wait=chance.random() < 0.5)
    good = chance.random() < 0.65
    data = [(chance.choice(rows), False) for _ in range(chance.randrange(4))]
    if not good and chance.random() < 0.6:
        data.insert(chance.randrange(len(data) + 1), (chance.choice(texts.BAD_ROWS), True))
    bad = any(fails for _, fails in data)
    for row, fails in data:
        author.say(m.copy_data(row.encode()), fails=fails)
        if chance.random() < 0.1:
            author.say(m.flush())
        if not bad and chance.random() < 0.1:
            author.say(m.sync())
    ends_well = good or (bad and chance.random() < 0.7)
    author.say(m.copy_done() if ends_well else m.copy_fail("no more"))
    if extended and chance.random() < 0.95:
        author.end()


def start(author: "Author", sql: str) -> None:
    """Begin a COPY by the extended protocol: with a Sync at once, as libpq does, or without."""
    chance = author.chance
    name = ""
    if chance.random() < 0.4:
        name = author.name()
        if author.known.get(name, Text(sql)).sql != sql:
            name = ""
    if name not in author.known:
        author.parse(name, Text(sql))
    author.bind("", name, None)
    author.say(m.execute())
    ending = chance.choice((m.sync(), m.flush(), None, None))
    if ending is not None:
        author.say(ending, wait=chance.random() < 0.5)
