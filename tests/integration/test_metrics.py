"""Metrics and health over HTTP, from the running daemon: its numbers are the console's."""

import signal

import pytest

from tests.integration.conftest import Launch
from tests.support import messages as m
from tests.support.fault_proxy import wait_until
from tests.support.page import Page
from tests.support.pooler import Pooler
from tests.support.ports import free_port
from tests.support.server import Server
from tests.support.standard import APP, ONE, databases, howdah_only

pytestmark = howdah_only("PgBouncer has no HTTP")


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(free_port())


@pytest.fixture(scope="module")
def pooler(module_launch: Launch, server: Server, page: Page) -> Pooler:
    return page.of(module_launch(databases(server), page.settings()))


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_every_page_is_there(pooler: Pooler, page: Page, path: str) -> None:
    assert page.get(path)[0] == 200


def test_what_is_not_there_is_404(pooler: Pooler, page: Page) -> None:
    assert page.get("/nothing")[0] == 404


def test_pools_are_as_the_console_shows_them(pooler: Pooler, page: Page) -> None:
    with pooler.raw(ONE) as busy, pooler.raw(ONE) as waiting:
        busy.rows("begin")
        waiting.send(m.query("select 1"))
        pooler.wait_for_pool(ONE, cl_waiting=1)
        labels = {"database": ONE, "user": pooler.user}
        assert page.value("pgbouncer_pools_client_active_connections", **labels) == 1
        assert page.value("pgbouncer_pools_client_waiting_connections", **labels) == 1
        assert page.value("pgbouncer_pools_server_active_connections", **labels) == 1
        busy.rows("commit")
        waiting.until()


def test_totals_are_as_the_console_shows_them(pooler: Pooler, page: Page) -> None:
    with pooler.raw(APP) as client:
        for number in range(7):
            client.value(f"select {number}")
    (stats,) = pooler.show("STATS", database=APP)
    for metric, column in (
        ("pgbouncer_stats_totals_queries_pooled_total", "total_query_count"),
        ("pgbouncer_stats_totals_sql_transactions_pooled_total", "total_xact_count"),
        ("pgbouncer_stats_totals_received_bytes_total", "total_received"),
        ("pgbouncer_stats_totals_sent_bytes_total", "total_sent"),
    ):
        assert page.value(metric, database=APP) == float(str(stats[column])), metric


def test_sizes_of_databases_are_as_configured(pooler: Pooler, page: Page) -> None:
    assert page.value("pgbouncer_databases_pool_size", name=ONE) == 1
    assert page.value("pgbouncer_databases_pool_size", name=APP) == 8


def test_the_exporters_own_up_is_there(pooler: Pooler, page: Page) -> None:
    assert page.value("pgbouncer_up") == 1


def test_scraping_again_and_again_does_not_disturb(pooler: Pooler, page: Page) -> None:
    with pooler.raw(APP) as client:
        for number in range(30):
            page.get("/metrics")
            assert client.value(f"select {number}") == str(number)


def test_readiness_ends_with_the_first_signal_and_liveness_does_not(launch: Launch, server: Server) -> None:
    page = Page(free_port())
    pooler = page.of(launch(databases(server), page.settings()))
    with pooler.raw(ONE) as client:
        client.value("select 1")
        pooler.signal(signal.SIGTERM)
        wait_until(lambda: page.get("/readyz")[0] == 503, 10, "not ready")
        assert page.get("/livez")[0] == 200
        client.quit()
        assert pooler.wait(5) == 0
