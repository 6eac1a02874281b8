"""Listening sockets: TCP and unix. What they accept becomes a client.

The unix socket stays open during a shutdown, so that the console can be reached.
"""

import asyncio
import contextlib
import grp
import logging
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from config.settings import Settings

logger = logging.getLogger("howdah")

ACCEPTS: Final = 32
"""Clients that are accepted in one turn of the loop at most; uvloop accepts one."""
_DEFER_SECONDS: Final = 45


class ListenError(Exception):
    """A socket cannot be listened on; the text says which and why."""


class Listener:
    """`accepted` makes the protocol object of a new connection."""

    def __init__(self, accepted: Callable[[], asyncio.Protocol]) -> None:
        self._accepted = accepted
        self._tcp: list[asyncio.Server] = []
        self._unix: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self._files: list[Path] = []

    @property
    def listening(self) -> bool:
        """Whether TCP clients can come, or unix ones where there is no TCP."""
        return bool(self._tcp or self._unix)

    async def start(self, settings: Settings, passed: list[socket.socket]) -> None:
        """Listen where the settings say, and on sockets a service manager passed. Raises ListenError."""
        for sock in passed:
            await self._serve(sock, settings)
        if not any(sock.family != socket.AF_UNIX for sock in passed):
            for host in settings.listen_addr:
                for sock in self._bind_tcp(host, settings):
                    await self._serve(sock, settings)
        if settings.unix_socket_dir and not any(sock.family == socket.AF_UNIX for sock in passed):
            await self._serve(self._bind_unix(settings), settings)

    async def _serve(self, sock: socket.socket, settings: Settings) -> None:
        loop = asyncio.get_running_loop()
        if sock.family == socket.AF_UNIX:
            server = await loop.create_unix_server(self._accepted, sock=sock, backlog=ACCEPTS)
            self._unix.append(server)
        else:
            server = await loop.create_server(self._accepted, sock=sock, backlog=ACCEPTS)
            self._tcp.append(server)
            self._sockets.append(sock)
            self._set_defer_accept(sock, settings)
        # What a loop is told is also how many it accepts in a turn; the kernel's queue may be longer.
        sock.listen(settings.listen_backlog)
        logger.info("listening on %s", _name(sock))

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

    @staticmethod
    def _set_defer_accept(sock: socket.socket, settings: Settings) -> None:
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            seconds = _DEFER_SECONDS if settings.tcp_defer_accept else 0
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, seconds)

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

    def apply(self, settings: Settings) -> None:
        """Take new settings, as far as they can change while listening."""
        for sock in self._sockets:
            self._set_defer_accept(sock, settings)

    def stop_tcp(self) -> None:
        """Take no more TCP clients."""
        for server in self._tcp:
            server.close()
        self._tcp.clear()
        self._sockets.clear()

    def stop(self) -> None:
        """Take no more clients at all."""
        self.stop_tcp()
        for server in self._unix:
            server.close()
        self._unix.clear()
        for file in self._files:
            with contextlib.suppress(OSError):
                file.unlink()
        self._files.clear()


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


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    if isinstance(name, bytes):
        name = name.decode(errors="backslashreplace")
    if isinstance(name, str):
        return f"unix:{name}".replace("\0", "@")
    return f"{name[0]}:{name[1]}"
