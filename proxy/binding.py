"""Listening sockets, TCP and unix, bound as the settings say or passed by a service manager. No event loop.

Whoever accepts on them is not known here: the only worker itself, or the supervisor of many.
"""

import contextlib
import grp
import os
import socket
import stat
from pathlib import Path
from typing import Final

from config.settings import Settings
from proxy.sockets import tune_listening

_DEFER_SECONDS: Final = 45


class ListenError(Exception):
    """A socket cannot be listened on; the text says which and why."""


class Binding:
    """The sockets, and the files of those that have one. They do not block."""

    def __init__(self) -> None:
        self.tcp: list[socket.socket] = []
        self.unix: list[socket.socket] = []
        self._files: list[Path] = []

    def bind(self, settings: Settings, passed: list[socket.socket]) -> None:
        """Bind what the settings name; a passed socket takes the place of its kind. Raises ListenError."""
        for sock in passed:
            (self.unix if sock.family == socket.AF_UNIX else self.tcp).append(sock)
        try:
            if not self.tcp:
                for host in settings.listen_addr:
                    self.tcp += self._bind_tcp(host, settings)
            if settings.unix_socket_dir and not self.unix:
                self.unix.append(self._bind_unix(settings))
        except ListenError:
            self.close()
            raise

    def _bind_tcp(self, host: str, settings: Settings) -> list[socket.socket]:
        bound = []
        try:
            found = socket.getaddrinfo(
                None if host == "*" else host,
                settings.listen_port,
                type=socket.SOCK_STREAM,
                flags=socket.AI_PASSIVE,
            )
            for family, kind, protocol, _, address in found:
                try:
                    sock = socket.socket(family, kind, protocol)
                except OSError:
                    # A kernel without IPv6 still resolves it.
                    continue
                bound.append(sock)
                self._set_options(sock, settings)
                sock.bind(address)
        except (OSError, UnicodeError) as error:
            # What cannot be a host name at all makes the codec fail.
            for sock in bound:
                sock.close()
            raise ListenError(f"cannot listen on {host}:{settings.listen_port}: {error}") from error
        return bound

    @staticmethod
    def _set_options(sock: socket.socket, settings: Settings) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if settings.so_reuseport:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def _bind_unix(self, settings: Settings) -> socket.socket:
        directory = settings.unix_socket_dir
        path = f"{directory}/.s.PGSQL.{settings.listen_port}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            if path.startswith("@"):
                sock.bind("\0" + path[1:])
                return sock
            _remove_stale(Path(path))
            sock.bind(path)
            self._files.append(Path(path))
            if settings.unix_socket_group:
                os.chown(path, -1, grp.getgrnam(settings.unix_socket_group).gr_gid)
            Path(path).chmod(settings.unix_socket_mode)
        except (OSError, KeyError) as error:
            sock.close()
            raise ListenError(f"cannot listen on unix socket {path}: {error}") from error
        return sock

    def listen(self, sock: socket.socket, settings: Settings) -> None:
        """Let the kernel queue newcomers on one of the sockets."""
        if sock.family != socket.AF_UNIX:
            _tune(sock, settings)
        sock.listen(settings.listen_backlog)

    def apply(self, settings: Settings) -> None:
        """Take new settings, as far as they can change while listening."""
        for sock in self.tcp:
            _tune(sock, settings)

    def close_tcp(self) -> None:
        """Take no more TCP clients."""
        for sock in self.tcp:
            sock.close()
        self.tcp.clear()

    def close(self) -> None:
        """Take no more clients at all; socket files of ours disappear."""
        self.close_tcp()
        for sock in self.unix:
            sock.close()
        self.unix.clear()
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink()
        self._files.clear()


def _tune(sock: socket.socket, settings: Settings) -> None:
    tune_listening(sock, settings)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        seconds = _DEFER_SECONDS if settings.tcp_defer_accept else 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)


def _remove_stale(path: Path) -> None:
    """Remove a socket file nobody listens on. Raises OSError when somebody does."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError("unix socket is in use, cannot continue")


def name_of(sock: socket.socket) -> str:
    """Where it listens, for people."""
    name = sock.getsockname()
    if isinstance(name, bytes):
        name = name.decode(errors="backslashreplace")
    if isinstance(name, str):
        return f"unix:{name}".replace("\0", "@")
    return f"{name[0]}:{name[1]}"
