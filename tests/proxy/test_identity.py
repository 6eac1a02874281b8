"""Names are taken from the system and from certificates as PostgreSQL takes them, or not at all."""

import os
import pwd
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from proxy import identity
from proxy.certificates import Certificate
from proxy.identity import NoName, Peer, certificate_name, peer_of, system_user, whereabouts
from tests.support.certificates import Authority

Name = tuple[tuple[tuple[str, str | None], ...], ...]
Show = Callable[[Name], None]


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Has the certificate that is read next have these names."""

    def shown(names: Name) -> None:
        certificate = Certificate(names, 0, None)
        monkeypatch.setattr(identity, "read_certificate", lambda der: certificate)

    return shown


async def test_the_system_user_on_the_other_side_is_known(threads: Executor) -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_of(here) == Peer(os.getpid(), os.getuid())
        assert await system_user(here, threads) == pwd.getpwuid(os.getuid()).pw_name


def test_who_gives_orders_on_a_unix_socket_is_known_by_process_and_user() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert whereabouts(here, "unix") == f"unix(pid {os.getpid()}, uid {os.getuid()})"
    with socket.socket() as sock:
        assert whereabouts(sock, "10.0.0.1:5") == "10.0.0.1:5"


async def test_nobody_is_on_the_other_side_of_tcp(threads: Executor) -> None:
    with socket.socket() as sock:
        assert peer_of(sock) is None
        with pytest.raises(NoName, match="not on a unix socket"):
            await system_user(sock, threads)
    assert peer_of(None) is None


async def test_a_user_whom_the_system_does_not_know_has_no_name(
    monkeypatch: pytest.MonkeyPatch, threads: Executor
) -> None:
    monkeypatch.setattr(identity, "peer_of", lambda sock: Peer(1, 2**31 - 5))
    with pytest.raises(NoName, match="there is no system user with id 2147483643"):
        await system_user(None, threads)


@pytest.mark.parametrize(
    ("uid_map", "overflow", "unknown"),
    [
        ("         0          0 4294967295\n", "65534\n", None),
        ("0 1000 1\n1 100000 65536\n", "65534\n", 65534),
        ("0 1000 1\n", "99\n", 99),
        (None, None, 65534),
    ],
)
async def test_the_number_of_those_who_have_none_here_is_nobodys_proof(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: Executor,
    uid_map: str | None,
    overflow: str | None,
    unknown: int | None,
) -> None:
    for name, text in (("_UID_MAP", uid_map), ("_OVERFLOW_UID", overflow)):
        monkeypatch.setattr(identity, name, str(tmp_path / name))
        if text is not None:
            (tmp_path / name).write_text(text)
    identity.overflow_uid.cache_clear()
    try:
        assert identity.overflow_uid() == unknown
        assert Peer(1, 0).is_known
        if unknown is not None:
            monkeypatch.setattr(identity, "peer_of", lambda sock: Peer(1, unknown))
            with pytest.raises(NoName, match="of another user namespace"):
                await system_user(None, threads)
    finally:
        identity.overflow_uid.cache_clear()


def test_names_of_a_real_certificate() -> None:
    der = Authority().client("alice").der
    assert certificate_name(der, "CN") == "alice"
    assert certificate_name(der, "DN") == "CN=alice"


def test_what_is_no_certificate_has_no_name() -> None:
    with pytest.raises(NoName, match="cannot be read"):
        certificate_name(b"junk", "CN")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (((("C", "DE"),), (("O", "Acme"),), (("CN", "alice"),)), "CN=alice,O=Acme,C=DE"),
        (((("O", "Acme"),), (("OU", "x"), ("CN", "alice"))), "CN=alice+OU=x,O=Acme"),
        (((("CN", 'a,b+c"d\\e<f>g;h=i'),),), 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h=i'),
        (((("CN", " a b "),),), "CN=\\ a b\\ "),
        (((("CN", "#a#"),),), "CN=\\#a#"),
        (((("CN", "é\x01"),),), "CN=\\C3\\A9\\01"),
        (((("CN", " "),),), "CN=\\ "),
    ],
)
def test_the_subject_is_written_as_in_rfc_2253(show: Show, names: Name, text: str) -> None:
    show(names)
    assert certificate_name(b"", "DN") == text


def test_the_first_common_name_counts(show: Show) -> None:
    show(((("O", "x"),), (("CN", "alice"),), (("CN", "bob"),)))
    assert certificate_name(b"", "CN") == "alice"


@pytest.mark.parametrize(
    ("names", "kind", "message"),
    [
        (((("O", "x"),),), "CN", "has no common name"),
        ((), "CN", "has no common name"),
        ((), "DN", "has no subject"),
        (((("CN", "alice\0.evil"),),), "CN", "common name of the certificate has a NUL inside"),
        (((("O", "x\0y"),), (("CN", "alice"),)), "DN", "O of the certificate has a NUL inside"),
        (((("CN", "x" * 513),),), "CN", "has more than 512 characters"),
        (((("CN", ""),),), "CN", "common name of the certificate is empty"),
        (((("CN", None),),), "CN", "common name of the certificate is no text"),
        (((("1.2.3", "x"),), (("CN", "alice"),)), "DN", "an attribute without a name: 1.2.3"),
    ],
)
def test_what_can_be_read_in_two_ways_is_no_name(show: Show, names: Name, kind: str, message: str) -> None:
    show(names)
    with pytest.raises(NoName, match=message):
        certificate_name(b"", kind)


def test_a_nul_in_a_real_certificate_is_refused() -> None:
    der = Authority().client("alice").der.replace(b"alice", b"al\0ce")
    assert x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    for kind in ("CN", "DN"):
        with pytest.raises(NoName, match="has a NUL inside"):
            certificate_name(der, kind)
