"""Whom the system or a certificate knows a client as. Whether that one may be the user is for the maps.

A name is taken from a certificate only if it can be read in one way: a NUL inside, or bytes that are no text,
make it none at all.
"""

import asyncio
import functools
import pwd
import socket
import struct
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple

from config.pattern import LONGEST_SYSTEM_NAME
from proxy.certificates import read_certificate

_UID_MAP: Final = "/proc/self/uid_map"
_ALL_UIDS: Final = ["0", "0", "4294967295"]
_OVERFLOW_UID: Final = "/proc/sys/kernel/overflowuid"
_SPECIAL: Final = frozenset(',+"\\<>;')
Names = Sequence[Sequence[tuple[str, str | None]]]
"""Relative names in the certificate's order, each of one or more attributes and their values."""


class NoName(Exception):
    """The client has no name in what it showed; the text says why, for the log."""


class Peer(NamedTuple):
    """A process on the other side of a unix socket."""

    pid: int
    uid: int

    @property
    def is_known(self) -> bool:
        """False if the number only says that the user has none in our user namespace."""
        return self.uid != overflow_uid()


@functools.cache
def overflow_uid() -> int | None:
    """The number that Linux shows for all users of other user namespaces; None where there are none such."""
    try:
        with open(_UID_MAP) as file:
            if file.read().split() == _ALL_UIDS:
                return None
        with open(_OVERFLOW_UID) as file:
            return int(file.read())
    except OSError:
        return 65534


def peer_of(sock: socket.socket | None) -> Peer | None:
    """Who connected to a unix socket; None where that cannot be known."""
    if sock is None or sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", credentials)[:2])


def whereabouts(sock: socket.socket | None, address: str) -> str:
    """Where somebody is who gives orders: the address, and on a unix socket the process and its user."""
    peer = peer_of(sock)
    return address if peer is None else f"{address}(pid {peer.pid}, uid {peer.uid})"


async def system_user(sock: socket.socket | None, threads: Executor) -> str:
    """The name of that system user. Raises NoName.

    It may have to be asked of a directory, which may take its time: in threads that nobody else waits for.
    """
    peer = peer_of(sock)
    if peer is None:
        raise NoName("not on a unix socket")
    if not peer.is_known:
        raise NoName("the system user is of another user namespace")
    try:
        entry = await asyncio.get_running_loop().run_in_executor(threads, pwd.getpwuid, peer.uid)
    except KeyError:
        raise NoName(f"there is no system user with id {peer.uid}") from None
    return _bounded(entry.pw_name)


def certificate_name(der: bytes, kind: str) -> str:
    """The common name ("CN") or the subject ("DN") of a certificate that was verified. Raises NoName."""
    try:
        names = read_certificate(der).names
    except ValueError as error:
        raise NoName(f"the certificate cannot be read: {error}") from error
    return _bounded(_common_name(names) if kind == "CN" else _distinguished_name(names))


def _bounded(name: str) -> str:
    """Expressions of maps are matched on the event loop, and were found harmless for names so long."""
    if len(name) > LONGEST_SYSTEM_NAME:
        raise NoName(f"the name has more than {LONGEST_SYSTEM_NAME} characters")
    return name


def _common_name(names: Names) -> str:
    for group in names:
        for attribute, value in group:
            if attribute == "CN":
                return _usable(value, "common name")
    raise NoName("the certificate has no common name")


def _distinguished_name(names: Names) -> str:
    """As RFC 2253 writes it and PostgreSQL compares it: the last first, special characters escaped."""
    groups = []
    for group in reversed(names):
        parts = []
        for attribute, value in reversed(group):
            if attribute[:1].isdigit():
                raise NoName(f"the subject of the certificate has an attribute without a name: {attribute}")
            parts.append(f"{attribute}={_escaped(_usable(value, attribute))}")
        groups.append("+".join(parts))
    if not groups:
        raise NoName("the certificate has no subject")
    return ",".join(groups)


def _usable(value: str | None, what: str) -> str:
    if value is None:
        raise NoName(f"the {what} of the certificate is no text")
    if not value or "\0" in value:
        raise NoName(f"the {what} of the certificate " + ("has a NUL inside" if value else "is empty"))
    return value


def _escaped(value: str) -> str:
    last = len(value) - 1
    text = ""
    for at, letter in enumerate(value):
        edge = (letter in " #" and at == 0) or (letter == " " and at == last)
        if letter in _SPECIAL or edge:
            text += "\\" + letter
        elif letter.isascii() and letter.isprintable():
            text += letter
        else:
            text += "".join(f"\\{byte:02X}" for byte in letter.encode("utf-8", "surrogateescape"))
    return text
