"""A host's name counts only if it leads back to its address; asking takes no longer than it may."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from config.settings import Settings
from proxy import host_names
from proxy.host_names import HostNames, confirmed_name


class Names:
    """A name service that can be stopped."""

    def __init__(self, **names: str) -> None:
        self.names = {"10.0.0.1": "a.example.org", **names}
        self.asked: list[str] = []
        self.goes_on = threading.Event()
        self.goes_on.set()

    def __call__(self, address: str) -> str:
        self.asked.append(address)
        assert self.goes_on.wait(10)
        return self.names.get(address, "")


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.goes_on.set()


def hosts(names: Names, patience: float = 5.0, **settings: float) -> HostNames:
    present = Settings.model_validate(settings)
    return HostNames(lambda: present, names, patience)


async def test_a_name_is_asked_for_once_and_remembered(names: Names) -> None:
    found = hosts(names)
    assert [await found.find("10.0.0.1") for _ in range(3)] == ["a.example.org"] * 3
    assert await found.find("10.0.0.2") == ""
    assert await found.find("10.0.0.2") == ""
    assert names.asked == ["10.0.0.1", "10.0.0.2"]
    found.close()


async def test_what_is_remembered_for_no_time_is_asked_for_again(names: Names) -> None:
    found = hosts(names, dns_max_ttl=0, dns_nxdomain_ttl=0)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"):
        await found.find(address)
    assert len(names.asked) == 4
    found.close()


async def test_many_logins_from_one_host_share_one_question(names: Names) -> None:
    found = hosts(names)
    names.goes_on.clear()
    logins = [asyncio.ensure_future(found.find("10.0.0.1")) for _ in range(5)]
    await asyncio.sleep(0)
    logins[0].cancel()
    names.goes_on.set()
    assert await asyncio.gather(*logins[1:]) == ["a.example.org"] * 4
    assert names.asked == ["10.0.0.1"]
    found.close()


async def test_a_login_does_not_wait_for_ever_and_a_late_answer_serves_the_next(
    names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    found = hosts(names, patience=0.01)
    names.goes_on.clear()
    assert await found.find("10.0.0.1") == ""
    assert "was not found out in time" in caplog.text
    names.goes_on.set()
    await asyncio.wait(found._asking.values())
    await asyncio.sleep(0)
    assert await found.find("10.0.0.1") == "a.example.org"
    assert len(names.asked) == 1
    found.close()


async def test_only_so_many_hosts_are_asked_about_at_a_time(
    names: Names, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(host_names, "MOST_ASKED", 1)
    found = hosts(names)
    names.goes_on.clear()
    first = asyncio.ensure_future(found.find("10.0.0.1"))
    await asyncio.sleep(0)
    assert await found.find("10.0.0.2") == ""
    assert "10.0.0.2 is not" in caplog.text
    names.goes_on.set()
    assert await first == "a.example.org"
    found.close()


async def test_what_is_remembered_is_bounded(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_names, "MOST_REMEMBERED", 2)
    found = hosts(names)
    for number in range(5):
        await found.find(f"10.0.1.{number}")
        assert len(found._known) <= 2
    found.close()


async def test_a_pooler_that_ends_does_not_wait_for_names(names: Names) -> None:
    found = hosts(names, patience=0.01)
    names.goes_on.clear()
    waiting = [asyncio.ensure_future(found.find(f"10.0.2.{number}")) for number in range(4)]
    await asyncio.sleep(0)
    found.close()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(answer == "" or isinstance(answer, asyncio.CancelledError) for answer in done)


@pytest.mark.parametrize(
    ("back", "name"),
    [
        (["10.9.9.9", "10.0.0.1"], "a.example.org"),
        (["10.9.9.9"], ""),
        ([], ""),
    ],
)
def test_a_name_leads_back_to_the_address(
    monkeypatch: pytest.MonkeyPatch, back: list[str], name: str
) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda address, flags: ("a.example.org", "0"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, port: [(0, 0, 0, "", (to, 0)) for to in back])
    assert confirmed_name("10.0.0.1") == name


def test_addresses_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda address, flags: ("a", "0"))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda name, port: [(0, 0, 0, "", ("fe80:0::1%eth0", 0, 0, 2))]
    )
    assert confirmed_name("fe80::1") == "a"


def test_a_name_that_is_no_name_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda address, flags: ("é", "0"))
    assert confirmed_name("10.0.0.1") == ""


def test_an_address_without_a_name_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: object, flags: int) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "none")

    monkeypatch.setattr(socket, "getnameinfo", refuse)
    assert confirmed_name("10.0.0.1") == ""


def test_this_machine_has_a_name_that_leads_back() -> None:
    assert confirmed_name("127.0.0.1") != ""
