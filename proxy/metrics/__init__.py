"""Numbers for machines: a collector over snapshots, and the HTTP server it is asked through."""

import os
from collections.abc import Awaitable, Callable

from config.settings import Settings
from proxy.binding import ListenError
from proxy.source import Source

# A list that aiohttp freezes once, at its start, needs no compiled code, which would cost 1 MiB of memory.
os.environ.setdefault("FROZENLIST_NO_EXTENSIONS", "1")


async def serve(settings: Settings, source: Source) -> Callable[[], Awaitable[None]] | None:
    """Serve HTTP where the settings want it; returns how to stop that. Raises ListenError."""
    if not settings.metrics_addr:
        return None
    # The HTTP library costs 12 MiB: only who wants metrics pays for it.
    from proxy.metrics.http import HttpError, HttpServer

    server = HttpServer(settings.metrics_addr, settings.metrics_port, source)
    try:
        await server.start()
    except HttpError as error:
        raise ListenError(str(error)) from error
    return server.stop
