"""The addresses of this machine and their networks, for rules that say `samehost` or `samenet`.

Asked of the C library (getifaddrs), because Python's own does not tell masks.
"""

import ctypes
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Final

Interface = IPv4Interface | IPv6Interface

_AF_OFFSET: Final = 0 if sys.platform == "linux" else 1
"""Where a socket address has its family: BSD's have their length in front of it."""
_ADDRESSES: Final = {socket.AF_INET: (4, 4), socket.AF_INET6: (8, 16)}
"""Where, in an address of this family, the number begins, and its bytes."""


class _Entry(ctypes.Structure):
    """`struct ifaddrs`, as far as it is the same everywhere."""


_Entry._fields_ = [
    ("next", ctypes.POINTER(_Entry)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("mask", ctypes.c_void_p),
]


def interfaces() -> tuple[Interface, ...]:
    """Each address of this machine with its mask. Raises OSError."""
    # What this process has loaded already, the C library among it: to look for that would start programs.
    library = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Entry)()
    if library.getifaddrs(ctypes.byref(first)) != 0:
        raise OSError(ctypes.get_errno(), "the network interfaces cannot be listed")
    try:
        return tuple(_walk(first))
    finally:
        library.freeifaddrs(first)


def _walk(entry: "ctypes._Pointer[_Entry]") -> Iterator[Interface]:
    while entry:
        found = entry.contents
        address, mask = _number(found.address), _number(found.mask)
        if address is not None and mask is not None:
            bits = int.from_bytes(mask, "big").bit_count()
            yield ip_interface(f"{ip_address(address)}/{bits}")
        entry = found.next


def _number(pointer: int | None) -> bytes | None:
    """The address at the pointer; None if there is none, or it is of another kind."""
    if not pointer:
        return None
    head = ctypes.string_at(pointer, 2)
    family = head[1] if _AF_OFFSET else int.from_bytes(head, sys.byteorder)
    where = _ADDRESSES.get(socket.AddressFamily(family)) if family in set(socket.AddressFamily) else None
    return None if where is None else ctypes.string_at(pointer + where[0], where[1])
