"""The doorkeeper asks what rules depend on only where it decides, and says little to whom it turns away."""

import asyncio
import logging
import os
import pwd
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

import pytest

from config.hba import Method
from config.hba_parser import parse_hba
from config.ident import parse_ident
from config.settings import Settings
from protocol.login import LoginFailed
from proxy import doorkeeper as module
from proxy.doorkeeper import Doorkeeper, Visitor
from proxy.log import Prefix
from proxy.wishes import Wishes
from tests.support.certificates import Authority

ME = pwd.getpwuid(os.getuid()).pw_name
NOBODY = Prefix("C", 1, None, None, "10.0.0.1:5")


@dataclass
class Tls:
    certificate: bytes | None = None

    def peer_certificate(self) -> bytes | None:
        return self.certificate


@dataclass
class FakeConnection:
    sock: socket.socket | None = None
    tls: Tls | None = None

    def socket(self) -> socket.socket | None:
        return self.sock

    def is_local(self) -> bool:
        return self.sock is not None


@dataclass
class FakeClient:
    connection: Any
    peer: tuple[str, int] = ("10.0.0.1", 5)
    prefix: Prefix = NOBODY


@dataclass
class Roles:
    """The server's answer about roles, and how often it was asked."""

    names: frozenset[str] = frozenset()
    asked: int = 0

    async def __call__(self) -> frozenset[str]:
        self.asked += 1
        return self.names


@dataclass
class Hosts:
    name: str = ""
    asked: list[str] = field(default_factory=list)

    async def find(self, address: str) -> str:
        self.asked.append(address)
        return self.name


def keeper(rules: str, maps: str = "") -> Doorkeeper:
    hba, _ = parse_hba(rules.encode(), "hba.conf")
    ident, _ = parse_ident(maps.encode(), "ident.conf")
    settings = Settings().model_copy(update={"hba": hba, "ident": ident})
    keeper = Doorkeeper(lambda: settings)
    keeper.apply()
    return keeper


def tcp(address: str = "10.0.0.1", tls: Tls | None = None) -> Visitor:
    return FakeClient(FakeConnection(tls=tls), (address, 5))


@contextmanager
def unix() -> Iterator[Visitor]:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        yield FakeClient(FakeConnection(here), ("unix", 0))


async def method(
    keeper: Doorkeeper, client: Visitor, wishes: Wishes | None = None, roles: Roles | None = None
) -> Method | str:
    try:
        rule = await keeper.rule_for(client, wishes or Wishes("alice", "app"), roles or Roles())
    except LoginFailed as error:
        return error.message if error.sqlstate == "28000" else error.sqlstate
    return rule.method


async def test_rules_are_for_where_the_client_comes_from() -> None:
    rules = keeper("local all all peer\nhostssl all all all md5\nhost all all 10.0.0.0/8 scram-sha-256")
    with unix() as client:
        assert await method(rules, client) is Method.PEER
    assert await method(rules, tcp(tls=Tls())) is Method.MD5
    assert await method(rules, tcp()) is Method.SCRAM_SHA_256
    assert await method(rules, tcp("11.0.0.1")) == "no authentication method is found"
    assert await method(rules, tcp("fe80::1%eth0")) == "no authentication method is found"


async def test_who_is_turned_away_hears_little_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rules = keeper("\nhost all bob all reject")
    assert await method(rules, tcp(), Wishes("bob", "app\n")) == "login rejected"
    assert await method(rules, tcp()) == "no authentication method is found"
    assert [record.getMessage() for record in caplog.records] == [
        f"{NOBODY}rejected by hba.conf:2: host 10.0.0.1, user bob, database app\\x0a, no encryption",
        f"{NOBODY}no rule of auth_hba_file is for host 10.0.0.1, user alice, database app, no encryption",
    ]


@pytest.mark.parametrize("name", ["pgbouncer", "howdah"])
async def test_the_console_is_one_database_under_either_name(name: str) -> None:
    for rules in ("host pgbouncer all all reject", "host howdah all all reject"):
        assert await method(keeper(f"{rules}\nhost all all all trust"), tcp(), Wishes("a", name)) == (
            "login rejected"
        )


async def test_roles_are_asked_for_only_where_they_decide() -> None:
    roles = Roles(frozenset({"alice", "staff"}))
    rules = keeper("host app2 +staff all md5\nhost all +staff all scram-sha-256\nhost all all all reject")
    assert await method(rules, tcp(), roles=roles) is Method.SCRAM_SHA_256
    assert roles.asked == 1
    assert await method(rules, tcp(), roles=Roles()) == "login rejected"
    unused = Roles()
    await method(keeper("host all alice,+staff all md5"), tcp(), roles=unused)
    assert unused.asked == 0


async def test_the_host_is_asked_for_its_name_only_where_it_decides(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rules = keeper("host other all .example.org trust\nhost app all .example.org md5")
    hosts = rules.host_names = Hosts("a.example.org")  # type: ignore[assignment]
    assert await method(rules, tcp(), Wishes("alice", "third")) == "no authentication method is found"
    assert hosts.asked == []
    assert await method(rules, tcp()) is Method.MD5
    assert hosts.asked == ["10.0.0.1"]
    assert await method(rules, tcp("::ffff:10.0.0.2")) is Method.MD5
    assert hosts.asked == ["10.0.0.1", "10.0.0.2"]
    hosts.name = "a.example.com"
    assert await method(rules, tcp()) == "no authentication method is found"
    assert "host 10.0.0.1 (a.example.com), user" in caplog.text


async def test_own_networks_are_known_where_rules_need_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "interfaces", lambda: (ip_interface("10.0.0.9/24"),))
    rules = keeper("host all all samehost md5\nhost all all samenet scram-sha-256")
    assert await method(rules, tcp("10.0.0.9")) is Method.MD5
    assert await method(rules, tcp("10.0.0.1")) is Method.SCRAM_SHA_256
    assert await method(rules, tcp("10.0.1.1")) == "no authentication method is found"


async def test_without_the_list_of_networks_nobody_is_from_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OSError("cannot be listed")

    monkeypatch.setattr(module, "interfaces", refuse)
    assert await method(keeper("host all all samenet trust"), tcp()) == "no authentication method is found"
    assert "samehost and samenet fit nobody" in caplog.text


async def test_a_rule_may_want_a_certificate_besides() -> None:
    rules = keeper("hostssl all all all md5 clientcert=verify-ca")
    assert await method(rules, tcp(tls=Tls())) == "connection requires a valid client certificate"
    assert await method(rules, tcp(tls=Tls(Authority().client("x").der))) is Method.MD5


# --- whom others know ----------------------------------------------------------------------------


async def refusal(keeper: Doorkeeper, client: Visitor, user: str, roles: Roles | None = None) -> str:
    """What the client hears whose rule is the first one; empty if it comes in."""
    (rule,) = keeper._settings().hba
    check = keeper.check_peer if rule.method is Method.PEER else keeper.check_certificate
    try:
        await check(client, Wishes(user, "app"), rule, roles or Roles())
    except LoginFailed as error:
        return error.message if error.sqlstate == "28000" else error.sqlstate
    return ""


async def test_a_peer_is_the_user_of_its_name_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rules = keeper("local all all peer")
    with unix() as client:
        assert await refusal(rules, client, ME) == ""
        assert await refusal(rules, client, "alice\n") == "unix socket login rejected"
    assert f'peer login refused: "{ME}" is not the user "alice\\x0a"' in caplog.text


async def test_a_directory_that_hangs_keeps_nobody_from_resolving_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()
    monkeypatch.setattr("proxy.identity.pwd.getpwuid", lambda uid: answered.wait(10))
    rules = keeper("local all all peer")
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    with unix() as client:
        hanging = [asyncio.create_task(refusal(rules, client, ME)) for _ in range(3)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(loop.getaddrinfo("localhost", 5432), 5)
        assert not any(task.done() for task in hanging)
        answered.set()
        await asyncio.gather(*hanging, return_exceptions=True)
    rules.close()


async def test_a_peer_may_be_whom_its_map_says(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rules = keeper("local all all peer map=m", f"m {ME} alice\nother {ME} bob\nm {ME} +staff")
    member = Roles(frozenset({"carol", "staff"}))
    with unix() as client:
        assert await refusal(rules, client, "alice", member) == ""
        assert member.asked == 0
        assert await refusal(rules, client, "carol", member) == ""
        assert await refusal(rules, client, "bob") == "unix socket login rejected"
        assert await refusal(rules, client, ME) == "unix socket login rejected"
    assert "ident map: m does not have a match" in caplog.text


async def test_a_certificate_is_in_the_name_of_the_user(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rules = keeper("hostssl all all all cert")
    alice = tcp(tls=Tls(Authority().client("alice").der))
    assert await refusal(rules, alice, "alice") == ""
    assert await refusal(rules, alice, "bob") == "certificate authentication failed"
    assert await refusal(rules, tcp(tls=Tls()), "alice") == "certificate authentication failed"
    assert await refusal(rules, tcp(), "alice") == "certificate authentication failed"
    reasons = [record.getMessage().partition("refused: ")[2] for record in caplog.records]
    assert reasons == [
        '"alice" is not the user "bob"',
        "no certificate was shown",
        "TLS connection required",
    ]


async def test_a_certificate_may_be_mapped_by_its_name_or_its_subject() -> None:
    client = tcp(tls=Tls(Authority().client("alice@example.com").der))
    by_name = keeper("hostssl all all all cert map=m", r"m /^(.*)@example\.com$ \1")
    by_subject = keeper("hostssl all all all cert map=m clientname=DN", r'm "/^CN=(.*)@example\.com$" \1')
    for rules in (by_name, by_subject):
        assert await refusal(rules, client, "alice") == ""
        assert await refusal(rules, client, "bob") == "certificate authentication failed"


async def test_without_a_rule_the_common_name_is_the_user() -> None:
    client = tcp(tls=Tls(Authority().client("alice").der))
    await keeper("").check_certificate(client, Wishes("alice", "app"), None, Roles())
    with pytest.raises(LoginFailed, match="certificate authentication failed"):
        await keeper("").check_certificate(client, Wishes("bob", "app"), None, Roles())
