import asyncio
import hashlib
import threading
from collections.abc import Iterator

import pytest

from protocol.login import Derive
from proxy import derive
from proxy.derive import Deriver


@pytest.fixture
def deriver() -> Iterator[Deriver]:
    made = Deriver()
    yield made
    made.close()


def expected(step: Derive) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", step.password, step.salt, step.iterations)


@pytest.mark.both_loops
async def test_it_derives_what_rfc_5802_calls_hi(deriver: Deriver) -> None:
    step = Derive(b"pencil", b"W22ZaJ0SNY7soEsUEjb6gQ==", 4096)
    assert await deriver.derive(step) == expected(step)


async def test_different_passwords_salts_and_iterations_give_different_keys(deriver: Deriver) -> None:
    steps = [
        Derive(b"a", b"salt", 10),
        Derive(b"b", b"salt", 10),
        Derive(b"a", b"salz", 10),
        Derive(b"a", b"salt", 11),
    ]
    keys = [await deriver.derive(step) for step in steps * 2]
    assert keys == [expected(step) for step in steps] * 2
    assert len(set(keys)) == 4


async def test_the_loop_is_free_while_a_key_is_derived(
    deriver: Deriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, threads = threading.Event(), set()

    def slow(*_: object) -> bytes:
        threads.add(threading.current_thread())
        go_on.wait(10)
        return b"key"

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", slow)
    tasks = [asyncio.create_task(deriver.derive(Derive(b"p%d" % n, b"salt", 1))) for n in range(5)]
    await asyncio.sleep(0)
    go_on.set()
    assert await asyncio.gather(*tasks) == [b"key"] * 5
    assert threading.current_thread() not in threads
    assert len(threads) <= derive.THREADS


async def test_what_was_derived_is_remembered(deriver: Deriver, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Derive(b"secret", b"salt", 5)
    known = await deriver.derive(step)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", None)
    assert await deriver.derive(Derive(b"secret", b"salt", 5)) == known


async def test_the_key_that_was_not_used_for_longest_is_forgotten(
    deriver: Deriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derive, "REMEMBERED", 2)
    one, two, three = (Derive(b"p", b"salt%d" % n, 1) for n in range(3))
    for step in (one, two, one, three):
        await deriver.derive(step)
    monkeypatch.setattr(hashlib, "pbkdf2_hmac", None)
    await deriver.derive(one)
    await deriver.derive(three)
    with pytest.raises(TypeError):
        await deriver.derive(two)


async def test_no_password_is_kept_in_clear(deriver: Deriver) -> None:
    await deriver.derive(Derive(b"hunter2", b"salt", 1))
    assert "hunter2" not in repr(vars(deriver))
