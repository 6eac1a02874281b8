"""What turns a process: uvloop or asyncio, as the settings say."""

import asyncio
from collections.abc import Callable

from config.settings import Settings
from config.types import EventLoop


def loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes the event loop."""
    if settings.event_loop is EventLoop.UVLOOP:
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
