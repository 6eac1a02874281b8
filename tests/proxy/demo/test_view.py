"""What the demo shows, in place and line by line."""

import io

from proxy.demo.client import Row
from proxy.demo.load import Interval
from proxy.demo.view import Figures, Table, header, milliseconds, refusals


def pool(**counts: int) -> Row:
    columns = ("cl_active", "cl_waiting", "sv_active", "sv_active_cancel", "sv_being_canceled")
    others = ("sv_idle", "sv_used", "sv_tested", "sv_login")
    return {name: str(counts.get(name, 0)) for name in (*columns, *others)}


def test_figures_come_from_all_pools_of_the_database() -> None:
    pools = [pool(cl_active=400, cl_waiting=90, sv_active=8, sv_idle=1), pool(cl_active=10, sv_login=2)]
    figures = Figures.of_pools(pools, 1234.4, Interval(1.0, [0.001, 0.002]))
    assert figures == Figures(500, 8, 90, 11, 1234.4, 0.001, 0.002)


def test_without_a_pooler_every_client_has_a_server_connection() -> None:
    assert Figures.of_load(97, Interval(2.0, [0.5])) == Figures(97, 97, 0, 97, 0.5, 0.5, 0.5)


def test_lines_stand_under_their_headings() -> None:
    line = Figures(500, 10, 4, 10, 12345.6, 0.00123, 1.5).line()
    assert line.split() == ["500", "10", "4", "10", "12,346", "1.2", "ms", "1,500", "ms"]
    assert len(line) == len(header())


def test_no_latency_is_a_dash() -> None:
    assert milliseconds(None) == "-"
    assert milliseconds(0.0004) == "0.4 ms"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_line_is_replaced() -> None:
    out = Terminal()
    table = Table(out)
    for _ in range(2):
        table.begin()
        table.show(Figures(1, 0, 0, 0, 0, None, None))
        table.show(Figures(2, 0, 0, 0, 0, None, None))
    lines = out.getvalue().splitlines()
    assert lines[0] == header()
    assert not lines[1].startswith("\x1b")
    assert lines[2].startswith("\x1b[F\x1b[K")
    assert lines[3] == header()
    assert not lines[4].startswith("\x1b")


def test_elsewhere_every_line_stays() -> None:
    out = io.StringIO()
    table = Table(out)
    table.begin()
    for clients in (1, 2):
        table.show(Figures(clients, 0, 0, 0, 0, None, None))
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3


def test_refusals_are_listed_by_number() -> None:
    assert refusals({"b": 2, "a": 1_000, "c": 2}) == ["  1,000 x  a", "  2 x  b", "  2 x  c"]
    assert refusals({}) == []
