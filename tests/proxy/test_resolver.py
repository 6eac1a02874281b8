import asyncio
import socket
from collections.abc import Callable

import pytest

from config.settings import Settings
from proxy.resolver import Resolver

Answers = list[str] | OSError | UnicodeError


class Names:
    """Stands in for the loop's getaddrinfo. `answers` may change at any time; `gate` holds answers back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, Answers] = {}
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 1000.0
        loop = _Loop(self)
        monkeypatch.setattr("proxy.resolver.asyncio.get_running_loop", lambda: loop)

    async def answer(self, name: str) -> list[tuple[object, ...]]:
        self.asked.append(name)
        await self.gate.wait()
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in found]


class _Loop:
    def __init__(self, names: Names) -> None:
        self._names = names

    def time(self) -> float:
        return self._names.now

    async def getaddrinfo(self, name: str, port: None, **_: object) -> list[tuple[object, ...]]:
        return await self._names.answer(name)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def resolver(**settings: object) -> Resolver:
    known = Settings.model_validate({"dns_max_ttl": 15, "dns_nxdomain_ttl": 5, **settings})
    return Resolver(lambda: known)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_answer_is_remembered_for_dns_max_ttl(names: Names) -> None:
    names.answers["db"] = ["10.0.0.1"]
    asker = resolver()
    assert await asker.resolve("db") == ["10.0.0.1"]
    names.answers["db"] = ["10.0.0.2"]
    names.now += 14.9
    assert await asker.resolve("db") == ["10.0.0.1"]
    names.now += 0.1
    assert await asker.resolve("db") == ["10.0.0.2"]
    assert names.asked == ["db", "db"]


async def test_a_failure_is_remembered_for_dns_nxdomain_ttl(names: Names) -> None:
    names.answers["db"] = socket.gaierror(socket.EAI_NONAME, "unknown")
    asker = resolver()
    for _ in range(2):
        with pytest.raises(socket.gaierror, match="unknown"):
            await asker.resolve("db")
    assert names.asked == ["db"]
    names.now += 5
    names.answers["db"] = ["10.0.0.1"]
    assert await asker.resolve("db") == ["10.0.0.1"]


async def test_addresses_take_turns(names: Names) -> None:
    names.answers["db"] = ["a", "b", "c"]
    asker = resolver()
    firsts = [await asker.resolve("db") for _ in range(3)]
    assert sorted(answer[0] for answer in firsts) == ["a", "b", "c"]
    assert all(sorted(answer) == ["a", "b", "c"] for answer in firsts)


async def test_the_same_address_twice_counts_once(names: Names) -> None:
    names.answers["db"] = ["a", "a", "b"]
    assert sorted(await resolver().resolve("db")) == ["a", "b"]


async def test_many_who_ask_at_once_are_one_question(names: Names) -> None:
    names.answers["db"] = ["a"]
    names.gate.clear()
    asker = resolver()
    asking = [asyncio.create_task(asker.resolve("db")) for _ in range(10)]
    await settle()
    assert names.asked == ["db"]
    assert asker.pending == 1
    names.gate.set()
    assert await asyncio.gather(*asking) == [["a"]] * 10
    await settle()
    assert asker.pending == 0


async def test_one_who_gives_up_disturbs_nobody(names: Names) -> None:
    names.answers["db"] = ["a"]
    names.gate.clear()
    asker = resolver()
    first, second = (asyncio.create_task(asker.resolve("db")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    names.gate.set()
    assert await second == ["a"]


async def test_slow_names_do_not_hold_up_others(names: Names) -> None:
    names.answers |= {"slow": ["a"], "quick": ["b"]}
    names.gate.clear()
    asker = resolver()
    slow = asyncio.create_task(asker.resolve("slow"))
    await settle()
    names.gate.set()
    assert await asker.resolve("quick") == ["b"]
    await slow


async def test_a_name_that_cannot_be_a_name_is_an_error_like_any_other(names: Names) -> None:
    names.answers["bad..name"] = UnicodeError("label empty or too long")
    asker = resolver()
    for _ in range(2):
        with pytest.raises(OSError, match="label empty"):
            await asker.resolve("bad..name")
    assert names.asked == ["bad..name"]


async def test_what_is_remembered_is_shown_with_the_seconds_left(names: Names) -> None:
    names.answers |= {"db": ["a", "b"], "none": socket.gaierror(socket.EAI_NONAME, "unknown")}
    asker = resolver()
    await asker.resolve("db")
    with pytest.raises(OSError, match="unknown"):
        await asker.resolve("none")
    names.now += 4
    assert asker.remembered() == [("db", 11, ["a", "b"]), ("none", 1, [])]
    names.now += 100
    assert [seconds for _, seconds, _ in asker.remembered()] == [0, 0]


async def test_the_settings_of_the_moment_count(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    names.answers["db"] = ["a"]
    ttl = 15.0
    settings: Callable[[], Settings] = lambda: Settings(dns_max_ttl=ttl)  # noqa: E731
    asker = Resolver(settings)
    ttl = 60.0
    await asker.resolve("db")
    assert asker.remembered() == [("db", 60, ["a"])]


@pytest.mark.both_loops
@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "localhost"])
async def test_addresses_and_local_names_resolve_for_real(name: str) -> None:
    addresses = await resolver().resolve(name)
    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::1"}


@pytest.mark.both_loops
@pytest.mark.parametrize("name", ["bad..name", "x" * 300, "no-such-name.invalid", "nul\0name"])
async def test_impossible_names_are_os_errors_for_real(name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        await resolver().resolve(name)
