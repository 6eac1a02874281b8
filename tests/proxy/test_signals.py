"""Signals become orders; the second one to shut down means at once."""

import asyncio
import logging
import signal
from collections.abc import Callable

import pytest

from proxy.control import Order, OrderRefused, Pause, Reload, Resume, Shutdown, ShutdownMode
from proxy.signals import Signals
from tests.support.rig import eventually


class Told:
    """Whoever carries orders out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.orders: list[Order] = []
        self.error: Exception | None = None
        self.ends = False
        self.handlers: dict[int, tuple[Callable[..., None], object]] = {}
        self.signals = Signals(self.execute, lambda: self.ends)

        def note(number: int, handler: Callable[..., None], argument: object) -> None:
            self.handlers[number] = handler, argument

        monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", note, raising=False)
        self.signals.install()

    async def execute(self, order: Order) -> None:
        self.orders.append(order)
        if self.error is not None:
            raise self.error

    def signal(self, number: signal.Signals) -> None:
        handler, argument = self.handlers[number]
        handler(argument)


@pytest.fixture
async def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


@pytest.mark.parametrize(
    ("number", "order"),
    [
        (signal.SIGHUP, Reload()),
        (signal.SIGUSR1, Pause()),
        (signal.SIGUSR2, Resume()),
        (signal.SIGINT, Shutdown(ShutdownMode.WAIT_FOR_SERVERS)),
        (signal.SIGTERM, Shutdown(ShutdownMode.WAIT_FOR_CLIENTS)),
        (signal.SIGQUIT, Shutdown(ShutdownMode.IMMEDIATE)),
    ],
)
async def test_each_signal_is_the_order_that_it_is_for_pgbouncer(
    told: Told, number: signal.Signals, order: Order
) -> None:
    told.signals.started.set()
    told.signal(number)
    await eventually(lambda: told.orders == [order])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_in_the_middle_of_a_shutdown_means_at_once(told: Told, number: signal.Signals) -> None:
    told.ends = True
    told.signals.started.set()
    told.signal(number)
    await eventually(lambda: told.orders == [Shutdown(ShutdownMode.IMMEDIATE)])


async def test_a_signal_before_the_start_waits_for_it(told: Told) -> None:
    told.signal(signal.SIGTERM)
    await asyncio.sleep(0.01)
    assert told.orders == []
    told.signals.started.set()
    await eventually(lambda: told.orders)


async def test_what_is_still_waiting_at_the_end_is_given_up(told: Told) -> None:
    told.signal(signal.SIGHUP)
    await asyncio.sleep(0)
    told.signals.stop()
    await asyncio.sleep(0)
    told.signals.started.set()
    await asyncio.sleep(0)
    assert told.orders == []


@pytest.mark.parametrize("error", [OrderRefused("not now"), ValueError("not now")])
async def test_an_order_that_fails_is_logged(
    told: Told, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    told.error = error
    told.signals.started.set()
    with caplog.at_level(logging.INFO):
        told.signal(signal.SIGUSR2)
        await eventually(lambda: "not now" in caplog.text)
    assert "got SIGUSR2, continuing from pause" in caplog.text
