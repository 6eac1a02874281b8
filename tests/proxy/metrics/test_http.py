import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxy.metrics.http import HttpError, HttpServer
from proxy.snapshot import StateSnapshot
from tests.proxy.fakes import FakeSnapshots

pytestmark = pytest.mark.both_loops


class Site:
    """A running server and a client for it."""

    def __init__(self, snapshots: FakeSnapshots, base: str, http: aiohttp.ClientSession) -> None:
        self.snapshots = snapshots
        self.base = base
        self.http = http

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        async with self.http.request(method, self.base + path, headers=headers) as response:
            return response.status, await response.text()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    snapshots = FakeSnapshots()
    server = HttpServer("127.0.0.1", 0, snapshots)
    port = await server.start()
    async with aiohttp.ClientSession() as http:
        yield Site(snapshots, f"http://127.0.0.1:{port}", http)
    await server.stop()


async def test_metrics_are_served_as_prometheus_text(site: Site) -> None:
    status, text = await site.get("/metrics")
    assert status == 200
    assert 'pgbouncer_pools_client_waiting_connections{database="app",user="alice"} 2.0' in text


async def test_metrics_are_fresh_at_each_scrape(site: Site) -> None:
    await site.get("/metrics")
    site.snapshots.pool_list = []
    assert 'pgbouncer_pools_client_waiting_connections{database="app"' not in (await site.get("/metrics"))[1]


async def test_openmetrics_is_served_to_who_asks_for_it(site: Site) -> None:
    status, text = await site.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert text.endswith("# EOF\n")


async def test_a_loop_that_turns_is_alive(site: Site) -> None:
    assert await site.get("/livez") == (200, "ok\n")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (StateSnapshot(), (200, "ready\n")),
        (StateSnapshot(paused=True), (200, "ready\n")),
        (StateSnapshot(draining=True), (503, "draining\n")),
        (StateSnapshot(listening=False), (503, "not listening\n")),
        (StateSnapshot(listening=False, draining=True), (503, "draining\n")),
    ],
)
async def test_readiness_ends_with_the_order_to_shut_down(
    site: Site, state: StateSnapshot, expected: tuple[int, str]
) -> None:
    site.snapshots.present_state = state
    assert await site.get("/readyz") == expected
    assert (await site.get("/livez"))[0] == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/favicon.ico", "/../etc/passwd", "/%00"])
async def test_other_paths_do_not_exist(site: Site, path: str) -> None:
    assert (await site.get(path))[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(site: Site, path: str, method: str) -> None:
    assert (await site.get(path, method))[0] == 405


async def test_head_is_answered_without_a_body(site: Site) -> None:
    assert await site.get("/livez", "HEAD") == (200, "")


async def test_the_answer_does_not_tell_which_software_runs(site: Site) -> None:
    for path in ("/livez", "/nowhere"):
        async with site.http.get(site.base + path) as response:
            assert response.headers["Server"] == "howdah"


async def test_a_failing_scrape_is_an_error_and_the_next_one_works(site: Site) -> None:
    pools, site.snapshots.pool_list = site.snapshots.pool_list, None  # type: ignore[assignment]
    assert (await site.get("/metrics"))[0] == 500
    site.snapshots.pool_list = pools
    assert (await site.get("/metrics"))[0] == 200


async def test_garbage_is_answered_with_an_error(site: Site) -> None:
    host, port = site.base.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01 not http at all\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.0 400")
    writer.close()
    assert (await site.get("/livez"))[0] == 200


async def test_an_address_in_use_is_named_together_with_the_settings() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer("127.0.0.1", port, FakeSnapshots())
        expected = rf"cannot serve metrics on 127\.0\.0\.1:{port} \(metrics_addr, metrics_port\): .*in use"
        with pytest.raises(HttpError, match=expected):
            await server.start()


async def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(HttpError, match=r"cannot serve metrics on 192\.0\.2\.1:0"):
        await HttpServer("192.0.2.1", 0, FakeSnapshots()).start()


async def test_a_star_means_all_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = HttpServer("*", port, FakeSnapshots())
    assert await server.start() == port
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/livez") as response:
        assert response.status == 200
    await server.stop()


async def test_after_stop_nobody_listens_and_stopping_twice_is_allowed() -> None:
    server = HttpServer("127.0.0.1", 0, FakeSnapshots())
    await server.stop()
    port = await server.start()
    await server.stop()
    await server.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_stop_does_not_wait_for_idle_connections() -> None:
    server = HttpServer("127.0.0.1", 0, FakeSnapshots())
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.wait_for(server.stop(), 10)
    assert await reader.read() == b""
    writer.close()


def test_what_costs_memory_without_need_is_not_loaded() -> None:
    code = "import proxy.metrics.http, sys; sys.exit('frozenlist._frozenlist' in sys.modules)"
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NO_EXTENSIONS")}
    assert subprocess.run([sys.executable, "-c", code], env=environ, check=False).returncode == 0
