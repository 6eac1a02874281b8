import logging
import socket

import pytest

from config.settings import Settings
from proxy.sockets import resize, tune

TCP = socket.IPPROTO_TCP


def tuned(settings: Settings, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    tune(sock, settings)
    return sock


def test_keepalive_is_on_unless_it_is_turned_off() -> None:
    for value in (True, False):
        with tuned(Settings(tcp_keepalive=value)) as sock:
            assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is value


@pytest.mark.parametrize(
    ("option", "key", "value"),
    [
        ("TCP_KEEPCNT", "tcp_keepcnt", 3),
        ("TCP_KEEPIDLE", "tcp_keepidle", 17),
        ("TCP_KEEPINTVL", "tcp_keepintvl", 5),
        ("TCP_USER_TIMEOUT", "tcp_user_timeout", 12_000),
    ],
)
def test_each_setting_reaches_its_option(option: str, key: str, value: int) -> None:
    number = getattr(socket, option, None)
    if number is None:
        pytest.skip(f"this platform has no {option}")
    with tuned(Settings.model_validate({key: value})) as sock:
        assert sock.getsockopt(TCP, number) == value


def test_zero_leaves_the_choice_to_the_system() -> None:
    with socket.socket() as untouched, tuned(Settings()) as sock:
        for option in ("TCP_KEEPCNT", "TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if (number := getattr(socket, option, None)) is not None:
                assert sock.getsockopt(TCP, number) == untouched.getsockopt(TCP, number)
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert sock.getsockopt(socket.SOL_SOCKET, buffer) == untouched.getsockopt(
                socket.SOL_SOCKET, buffer
            )


def test_the_kernels_buffers_have_the_size_asked_for() -> None:
    with tuned(Settings(tcp_socket_buffer=50_000)) as sock:
        for buffer in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert sock.getsockopt(socket.SOL_SOCKET, buffer) >= 50_000


def test_unix_sockets_and_none_are_left_alone() -> None:
    tune(None, Settings())
    settings = Settings(tcp_keepcnt=3, tcp_socket_buffer=50_000)
    with tuned(settings, socket.AF_UNIX) as sock, socket.socket(socket.AF_UNIX) as untouched:
        resize(sock, settings)
        for option in (socket.SO_KEEPALIVE, socket.SO_RCVBUF, socket.SO_SNDBUF):
            assert sock.getsockopt(socket.SOL_SOCKET, option) == untouched.getsockopt(
                socket.SOL_SOCKET, option
            )


def test_a_value_the_kernel_refuses_costs_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "howdah")
    with tuned(Settings(tcp_keepidle=1_000_000, tcp_keepcnt=3)) as sock:
        assert sock.getsockopt(TCP, socket.TCP_KEEPCNT) == 3
    assert "tcp_keepidle" in caplog.text
