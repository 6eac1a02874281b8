"""Sockets are bound without an event loop; what they are like while clients come is in test_listener."""

import socket
from pathlib import Path

import pytest

from config.settings import Settings
from proxy.binding import Binding, ListenError, name_of
from tests.support.ports import free_port


def settings(**more: object) -> Settings:
    values = {"listen_addr": "127.0.0.1", "listen_port": free_port(), "unix_socket_dir": "", **more}
    return Settings.model_validate(values)


def defer_accept(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) > 0


def test_what_is_bound_does_not_block_and_is_closed_with_its_file(tmp_path: Path) -> None:
    known = settings(unix_socket_dir=str(tmp_path))
    binding = Binding()
    binding.bind(known, [])
    (tcp,), (unix,) = binding.tcp, binding.unix
    path = tmp_path / f".s.PGSQL.{known.listen_port}"
    assert (tcp.getblocking(), unix.getblocking(), path.is_socket()) == (False, False, True)
    assert (name_of(tcp), name_of(unix)) == (f"127.0.0.1:{known.listen_port}", f"unix:{path}")
    binding.close()
    assert (tcp.fileno(), unix.fileno(), path.exists()) == (-1, -1, False)


def test_nothing_stays_bound_where_something_cannot_be(tmp_path: Path) -> None:
    binding = Binding()
    known = settings(unix_socket_dir=str(tmp_path / "missing"))
    with pytest.raises(ListenError, match="missing"):
        binding.bind(known, [])
    assert (binding.tcp, binding.unix) == ([], [])
    socket.create_server(("127.0.0.1", known.listen_port)).close()


def test_closing_tcp_leaves_the_unix_socket(tmp_path: Path) -> None:
    binding = Binding()
    binding.bind(settings(unix_socket_dir=str(tmp_path)), [])
    binding.close_tcp()
    assert (len(binding.tcp), len(binding.unix)) == (0, 1)
    binding.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="Linux only")
def test_clients_that_say_nothing_wake_nobody_where_the_settings_say_so() -> None:
    known = settings(tcp_defer_accept="1")
    binding = Binding()
    binding.bind(known, [])
    (sock,) = binding.tcp
    binding.listen(sock, known)
    assert defer_accept(sock)
    binding.apply(known.with_value("tcp_defer_accept", "0"))
    assert not defer_accept(sock)
    binding.close()


def accepted_by(sock: socket.socket) -> socket.socket:
    """A connection to a listening socket, on the side of the pooler."""
    with socket.create_connection(sock.getsockname()) as client:
        client.sendall(b"x")
        sock.setblocking(True)
        connection, _ = sock.accept()
    return connection


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="Linux only")
def test_what_is_accepted_is_tuned_as_the_settings_say_at_the_time() -> None:
    known = settings(tcp_keepidle=17, tcp_user_timeout=12_000)
    binding = Binding()
    binding.bind(known, [])
    (sock,) = binding.tcp
    binding.listen(sock, known)
    with accepted_by(sock) as first:
        assert first.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 17
        assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_000
    binding.apply(settings(tcp_keepalive="0"))
    with accepted_by(sock) as second, socket.socket() as untouched:
        for level, option in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ):
            assert second.getsockopt(level, option) == untouched.getsockopt(level, option)
    binding.close()
