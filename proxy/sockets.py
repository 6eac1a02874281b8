"""Options of sockets, the same for clients and servers: PgBouncer's tcp_* settings.

What a listening socket accepts inherits its options, which spares each client the system calls.
"""

import logging
import socket
from typing import Final

from config.settings import Settings

logger = logging.getLogger("howdah")

_TCP: Final = (socket.AF_INET, socket.AF_INET6)
_LINUX_OPTIONS: Final = (
    ("TCP_KEEPCNT", "tcp_keepcnt"),
    ("TCP_KEEPIDLE", "tcp_keepidle"),
    ("TCP_KEEPINTVL", "tcp_keepintvl"),
    ("TCP_USER_TIMEOUT", "tcp_user_timeout"),
)


def tune(sock: socket.socket | None, settings: Settings) -> None:
    """Apply the tcp_* settings to a TCP socket.

    A platform without one, or a kernel that refuses a value, goes without it: it costs no connection.
    """
    if sock is None or sock.family not in _TCP:
        return
    resize(sock, settings)
    if settings.tcp_keepalive:
        _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, "tcp_keepalive")
    for option, key in _LINUX_OPTIONS:
        value = getattr(settings, key)
        if value and hasattr(socket, option):
            _set(sock, socket.IPPROTO_TCP, getattr(socket, option), value, key)


def resize(sock: socket.socket, settings: Settings) -> None:
    """Apply tcp_socket_buffer to a TCP socket. It is no matter of listening sockets: a buffer that once had
    a size given to it does not grow of itself any more.
    """
    if (size := settings.tcp_socket_buffer) and sock.family in _TCP:
        _set(sock, socket.SOL_SOCKET, socket.SO_RCVBUF, size, "tcp_socket_buffer")
        _set(sock, socket.SOL_SOCKET, socket.SO_SNDBUF, size, "tcp_socket_buffer")


def tune_listening(sock: socket.socket, settings: Settings) -> None:
    """Apply the other tcp_* settings to all that a TCP socket will accept; 0 takes an earlier value back."""
    _set(sock, socket.SOL_SOCKET, socket.SO_KEEPALIVE, settings.tcp_keepalive, "tcp_keepalive")
    with socket.socket(sock.family) as fresh:
        for option, key in _LINUX_OPTIONS:
            if hasattr(socket, option):
                number = getattr(socket, option)
                value = getattr(settings, key) or fresh.getsockopt(socket.IPPROTO_TCP, number)
                _set(sock, socket.IPPROTO_TCP, number, value, key)


def _set(sock: socket.socket, level: int, option: int, value: int, key: str) -> None:
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        logger.warning("%s = %d: %s", key, value, error.strerror)
