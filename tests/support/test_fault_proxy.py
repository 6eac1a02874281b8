import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.fault_proxy import End, FaultProxy, Way, wait_until


class Echo:
    """A server that sends everything back."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    @staticmethod
    def _serve(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except OSError:
                pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    echo = Echo()
    with FaultProxy(echo.address) as proxy:
        yield proxy
    echo.close()


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection((proxy.host, proxy.port), 5) as client:
        yield client


def received(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(count - len(data))
    return data


def test_everything_passes_while_nothing_is_wrong_and_is_recorded(
    proxy: FaultProxy, client: socket.socket
) -> None:
    client.sendall(b"hello")
    assert received(client, 5) == b"hello"
    assert bytes(proxy.links[0].recorded[Way.TO_SERVER]) == b"hello"
    assert bytes(proxy.links[0].recorded[Way.TO_CLIENT]) == b"hello"


def test_slices_arrive_in_order(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.slice(1)
    data = bytes(range(256)) * 4
    client.sendall(data)
    assert received(client, len(data)) == data


def test_stop_at_passes_so_many_bytes_and_heal_the_rest(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.stop_at(Way.TO_CLIENT, 3)
    client.sendall(b"abcdef")
    assert received(client, 3) == b"abc"
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(5)
    proxy.heal()
    assert received(client, 3) == b"def"


@pytest.mark.parametrize("way", [Way.TO_SERVER, Way.TO_CLIENT])
def test_a_connection_is_reset_at_a_certain_byte_and_the_next_one_is_not(
    proxy: FaultProxy, client: socket.socket, way: Way
) -> None:
    proxy.end_at(way, 3, End.RESET)
    client.sendall(b"abcdef")
    with pytest.raises(ConnectionError):
        received(client, 6)
    assert proxy.links[0].passed[way] == 3
    with socket.create_connection((proxy.host, proxy.port), 5) as other:
        other.sendall(b"abcdef")
        assert received(other, 6) == b"abcdef"


def test_a_direction_is_half_closed_at_a_certain_byte(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.end_at(Way.TO_SERVER, 3, End.HALF_CLOSE)
    client.sendall(b"abcdef")
    assert received(client, 3) == b"abc"
    assert client.recv(1) == b""


def test_a_direction_stops_at_a_certain_byte(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.end_at(Way.TO_CLIENT, 0, End.STOP)
    client.sendall(b"abcdef")
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    assert proxy.faults.end_at == {}


def test_a_black_hole_keeps_back_even_the_end(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.blackhole()
    client.sendall(b"late")
    client.shutdown(socket.SHUT_WR)
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(5)
    proxy.heal()
    assert received(client, 4) == b"late"
    assert client.recv(1) == b""


def test_reset_resets_the_client(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"x")
    received(client, 1)
    proxy.reset()
    with pytest.raises(ConnectionError):
        client.recv(1)


def test_half_close_ends_one_direction_only(proxy: FaultProxy, client: socket.socket) -> None:
    client.sendall(b"x")
    received(client, 1)
    proxy.half_close(Way.TO_CLIENT)
    assert client.recv(1) == b""
    client.sendall(b"still heard")
    recorded = proxy.links[0].recorded[Way.TO_SERVER]
    wait_until(lambda: bytes(recorded) == b"xstill heard", 3, "heard")


def test_down_refuses_and_up_opens_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    proxy.down()
    with pytest.raises(ConnectionError):
        socket.create_connection((proxy.host, port), 5)
    proxy.up()
    with socket.create_connection((proxy.host, port), 5) as client:
        client.sendall(b"x")
        assert received(client, 1) == b"x"


@pytest.mark.parametrize("swallow", [True, False])
def test_new_connections_can_be_held_or_swallowed(proxy: FaultProxy, swallow: bool) -> None:
    proxy.swallow_new(swallow)
    proxy.hold_new(0 if swallow else 0.2)
    with socket.create_connection((proxy.host, proxy.port), 5) as client:
        client.sendall(b"x")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5)
        if not swallow:
            assert received(client, 1) == b"x"
