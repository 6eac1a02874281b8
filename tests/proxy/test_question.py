"""One question with bound values: what is sent, what is taken of the answer."""

import asyncio

import pytest

from proxy.errors import TimedOut
from proxy.question import MOST_BYTES, OWN_PATH, SAFE_PATH, Answer, Question, Row, TooMuch
from proxy.reasons import ServerClosed
from tests.support import messages as m
from tests.support.playbook import Playbook

SETTLED = ("1", "2", "D on", "C SELECT 1")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def begun(
    book: Playbook, *, path: str = SAFE_PATH, most: int = 2
) -> tuple[Question, "asyncio.Task[list[Row]]"]:
    question = Question(book.pool, b"select $1", [b"o'Brien"], most, lambda: None)
    task = asyncio.create_task(question.put(book.now, path))
    await settle()
    return question, task


async def test_settings_and_question_are_one_group_and_the_value_is_bound() -> None:
    book = Playbook()
    _, task = await begun(book)
    sent = book.wire().take()
    assert sent.count(m.sync()) == 1
    assert sent.endswith(m.parse("", "select $1") + m.bind("", "", ["o'Brien"]) + m.execute("", 2) + m.sync())
    assert b"'search_path', 'pg_catalog, pg_temp', true)" in sent
    assert b"'statement_timeout', '10000', true)" in sent
    book.server(*SETTLED, "1", "2", "D x", "C SELECT 1", "Z I")
    assert await task == [(b"x",)]
    assert book.state() == "idle"


async def test_the_search_path_can_be_left_to_the_role() -> None:
    book = Playbook(auth_query_timeout=0)
    _, task = await begun(book, path=OWN_PATH)
    sent = book.wire().take()
    assert b"search_path" not in sent
    assert b"'statement_timeout', '0', true)" in sent
    book.server(*SETTLED, "1", "2", "C SELECT 0", "Z I")
    assert await task == []


async def test_an_error_is_kept_and_the_server_stays() -> None:
    book = Playbook()
    question, task = await begun(book)
    book.server(*SETTLED, "E 42P01 no such table", "Z I")
    assert await task == []
    assert question.error is not None
    assert b"42P01" in question.error
    assert question.where.startswith("S-")
    assert book.state() == "idle"


async def test_more_rows_than_wanted_are_not_fetched_and_too_many_bytes_are_no_answer() -> None:
    book = Playbook()
    _, task = await begun(book, most=5)
    rows = [m.data_row([b"x" * (MOST_BYTES // 4)])] * 5
    book.server(*SETTLED, "1", "2", *rows, "s", "Z I")
    with pytest.raises(TooMuch):
        await task
    assert book.state() == "idle"


async def test_whoever_asks_is_told_when_there_is_no_going_back() -> None:
    book = Playbook(open=0)
    told: list[str] = []
    question = Question(book.pool, b"select", [], 1, lambda: told.append("sent"))
    task = asyncio.create_task(question.put(book.now, SAFE_PATH))
    await settle()
    assert told == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not book.pool.waiting


async def test_an_answer_that_does_not_come_costs_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.question.GRACE", 0.0)
    book = Playbook(auth_query_timeout=0.01)
    _, task = await begun(book)
    server = book.server_at()
    with pytest.raises(TimedOut, match="auth_query_timeout"):
        await task
    assert server.close_reason is ServerClosed.ABANDONED


def test_rows_are_kept_up_to_a_limit() -> None:
    answer = Answer()
    answer.take(b"x")
    answer.take(b"x" * MOST_BYTES)
    assert (answer.rows, answer.size) == ([b"x"], MOST_BYTES + 1)
