"""Options of sockets, the same for clients and servers: PgBouncer's tcp_* settings."""

import socket
from typing import Final

from config.settings import Settings

_LINUX_OPTIONS: Final = (
    ("TCP_KEEPCNT", "tcp_keepcnt"),
    ("TCP_KEEPIDLE", "tcp_keepidle"),
    ("TCP_KEEPINTVL", "tcp_keepintvl"),
    ("TCP_USER_TIMEOUT", "tcp_user_timeout"),
)


def tune(sock: socket.socket | None, settings: Settings) -> None:
    """Apply the tcp_* settings to a TCP socket; a platform without one of them goes without it."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    if settings.tcp_socket_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, settings.tcp_socket_buffer)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.tcp_socket_buffer)
    if settings.tcp_keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, key in _LINUX_OPTIONS:
        value = getattr(settings, key)
        if value and hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
