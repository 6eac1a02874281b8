"""HTTP for machines: /metrics for Prometheus, /livez and /readyz for what decides about traffic and restarts.

/livez says that the event loop turns, by answering. /readyz says whether new clients are welcome: 503 before
the sockets are open and from the first order to shut down; a paused pooler is ready, its clients wait.
"""

from typing import Final

from aiohttp import web
from prometheus_client.aiohttp import make_aiohttp_handler

from proxy.metrics.prometheus import PARTS, registry_of
from proxy.source import Source

# How long a scrape that is under way may take when the server stops, in seconds.
_STOP_SECONDS: Final = 1.0


class HttpError(Exception):
    """The HTTP server cannot start; the text names the address, the reason and the settings."""


class HttpServer:
    """Listens on `metrics_addr` (`*`: all addresses) and `metrics_port` (0: any free port)."""

    def __init__(self, addr: str, port: int, source: Source) -> None:
        self._addr = addr
        self._port = port
        self._source = source
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.on_response_prepare.append(_hide_software)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS)

    async def start(self) -> int:
        """Begin to listen; return the port. Raises HttpError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, None if self._addr == "*" else self._addr, self._port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            place = f"{self._addr}:{self._port} (metrics_addr, metrics_port)"
            raise HttpError(f"cannot serve metrics on {place}: {error.strerror or error}") from error
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Stop listening and end the connections. May be called at any time."""
        await self._runner.cleanup()

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        snapshots = await self._source.take(PARTS)
        return await make_aiohttp_handler(registry_of(snapshots))(request)

    async def _readyz(self, request: web.Request) -> web.Response:
        state = (await self._source.take(("state",))).state()
        if state.draining:
            return web.Response(text="draining\n", status=503)
        if not state.listening:
            return web.Response(text="not listening\n", status=503)
        return web.Response(text="ready\n")


async def _hide_software(request: web.Request, response: web.StreamResponse) -> None:
    """Do not tell strangers which versions of which libraries run here."""
    response.headers["Server"] = "howdah"
