"""PgBouncer's signals, as they are since 1.23, as orders."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.control import Order, OrderRefused, Pause, Reload, Resume, Shutdown, ShutdownMode
from proxy.tasks import Tasks

logger = logging.getLogger("howdah")

ORDERS: Final[dict[signal.Signals, Order]] = {
    signal.SIGHUP: Reload(),
    signal.SIGUSR1: Pause(),
    signal.SIGUSR2: Resume(),
    signal.SIGINT: Shutdown(ShutdownMode.WAIT_FOR_SERVERS),
    signal.SIGTERM: Shutdown(ShutdownMode.WAIT_FOR_CLIENTS),
    signal.SIGQUIT: Shutdown(ShutdownMode.IMMEDIATE),
}


class Signals:
    """Has the orders carried out. While a shutdown is under way, any signal to shut down means at once."""

    def __init__(
        self, execute: Callable[[Order], Awaitable[None]], is_shutting_down: Callable[[], bool]
    ) -> None:
        self._execute = execute
        self._is_shutting_down = is_shutting_down
        self._orders = Tasks()
        self.started = asyncio.Event()
        """A signal may come before there is anything to be told: its order waits for this."""

    def install(self) -> None:
        """Take the signals from now on."""
        loop = asyncio.get_running_loop()
        for number in ORDERS:
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        order = ORDERS[number]
        if isinstance(order, Shutdown) and self._is_shutting_down():
            order = Shutdown(ShutdownMode.IMMEDIATE)
        logger.info("got %s, %s", number.name, _describe(order))
        self._orders.start(self._carry_out(order))

    async def _carry_out(self, order: Order) -> None:
        await self.started.wait()
        try:
            await self._execute(order)
        except OrderRefused as error:
            logger.error("%s", error.message)
        except Exception:
            logger.exception("carrying out %s failed", order)

    def stop(self) -> None:
        """Give up what is not done yet."""
        self._orders.cancel()


def _describe(order: Order) -> str:
    if isinstance(order, Shutdown):
        return {
            ShutdownMode.IMMEDIATE: "fast exit",
            ShutdownMode.WAIT_FOR_SERVERS: "shutting down, waiting for all servers to be released",
            ShutdownMode.WAIT_FOR_CLIENTS: "shutting down, waiting for all clients disconnect",
        }[order.mode]
    return {Reload: "re-reading config", Pause: "pausing all activity", Resume: "continuing from pause"}[
        type(order)
    ]
