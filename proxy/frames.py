"""Frames between the processes of one pooler: an object and the descriptors that go with it.

Laws of this file: a frame is a length, the number of its descriptors and the pickle of one object; only plain
data and classes of ours are unpickled. No event loop: `Link` has that, the template reads and blocks.
"""

import contextlib
import io
import os
import pickle
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from typing import Final

MAX_FRAME: Final = 256 * 1024 * 1024
MAX_DESCRIPTORS: Final = 16
"""Descriptors that go with one message at most; Linux takes 253."""
READ: Final = 65_536

_HEADER: Final = struct.Struct("!IB")
_ANCILLARY: Final = socket.CMSG_SPACE(MAX_DESCRIPTORS * struct.calcsize("i"))
# To test a plain number for a flag of an enum takes longer than to read.
_CUT: Final = int(socket.MSG_CTRUNC)
_OURS: Final = ("config", "protocol", "proxy")
_PLAIN: Final = frozenset(
    {
        ("builtins", "bytearray"),
        ("builtins", "complex"),
        ("builtins", "frozenset"),
        ("builtins", "range"),
        ("builtins", "set"),
        ("builtins", "slice"),
        ("collections", "Counter"),
        ("collections", "OrderedDict"),
        ("collections", "deque"),
        ("datetime", "datetime"),
        ("datetime", "timedelta"),
        ("datetime", "timezone"),
        ("ipaddress", "IPv4Address"),
        ("ipaddress", "IPv4Network"),
        ("ipaddress", "IPv6Address"),
        ("ipaddress", "IPv6Network"),
        ("pathlib", "Path"),
        ("pathlib", "PosixPath"),
        # How a compiled pattern of an HBA or ident file travels: as its text.
        ("re", "_compile"),
    }
)


class LinkLost(Exception):
    """The process at the other end has gone, or what it sent makes no sense."""


def type_defined_in(module: str, name: str) -> type | None:
    """What has this name in a module that is loaded, if it is a type that the module itself defines.

    Nothing is imported for a stranger's word: that alone would run the module.
    """
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and found.__module__ == module else None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        if module.split(".")[0] in _OURS:
            found = type_defined_in(module, name)
            if found is not None:
                return found
        raise LinkLost(f"{module}.{name} is not sent between processes of ours")


def encode(message: object, descriptors: int = 0) -> bytes:
    """One frame. Raises ValueError for one that no reader would take."""
    body = pickle.dumps(message, 5)
    if len(body) > MAX_FRAME or descriptors > MAX_DESCRIPTORS:
        raise ValueError(f"a message of {len(body)} bytes and {descriptors} descriptors is too large")
    return _HEADER.pack(len(body), descriptors) + body


class Frames:
    """Cuts what was read into messages, and gives each the descriptors that came with it."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._descriptors: deque[list[int]] = deque()

    def feed(self, data: bytes, descriptors: list[int], cut: bool) -> list[tuple[object, tuple[int, ...]]]:
        """The messages that are whole now. `cut`: there was no room for all descriptors of a message; it then
        comes without any. Raises LinkLost for nonsense, and closes all descriptors then.
        """
        # The kernel never joins the descriptors of two messages in one read, nor loses their order.
        if descriptors or cut:
            self._descriptors.append(descriptors)
        self._data += data
        messages = list[tuple[object, tuple[int, ...]]]()
        try:
            self._cut(messages)
        except LinkLost:
            # Nobody gets what was whole before the nonsense.
            for _, theirs in messages:
                close_all(theirs)
            self.close()
            raise
        return messages

    def _cut(self, messages: list[tuple[object, tuple[int, ...]]]) -> None:
        at = 0
        while len(self._data) - at >= _HEADER.size:
            length, count = _HEADER.unpack_from(self._data, at)
            if length > MAX_FRAME:
                raise LinkLost(f"a message of {length} bytes")
            if len(self._data) - at - _HEADER.size < length:
                break
            at += _HEADER.size
            body = bytes(self._data[at : at + length])
            at += length
            messages.append((_decode(body), self._take(count)))
        del self._data[:at]

    def _take(self, count: int) -> tuple[int, ...]:
        if not count:
            return ()
        if not self._descriptors:
            raise LinkLost("a message came without its descriptors")
        came = self._descriptors.popleft()
        if len(came) == count:
            return tuple(came)
        close_all(came)
        return ()

    def close(self) -> None:
        """Close the descriptors of messages that will never be whole."""
        while self._descriptors:
            close_all(self._descriptors.popleft())


def _decode(body: bytes) -> object:
    try:
        return _Unpickler(io.BytesIO(body)).load()
    except LinkLost:
        raise
    except Exception as error:
        raise LinkLost(f"a message cannot be read: {type(error).__name__}: {error}") from error


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors; never raises."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def receive_once(sock: socket.socket) -> tuple[bytes, list[int], bool]:
    """Read once: the bytes, the descriptors with them, and whether some had no room. Raises OSError."""
    data, ancillary, flags, _ = sock.recvmsg(READ, _ANCILLARY)
    descriptors: list[int] = []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(content) - len(content) % struct.calcsize("i")
            descriptors += [number for (number,) in struct.iter_unpack("i", content[:whole])]
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return data, descriptors, bool(flags & _CUT)


def send_once(sock: socket.socket, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
    """Write once, as `socket.send`. Raises OSError."""
    if not descriptors:
        return sock.send(data)
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
