"""The oracle asked after every bad input: is everybody else still well served?

Law: whatever one client does, (1) a bystander keeps getting its own answers,
(2) a newcomer is served, (3) the counters of SHOW POOLS return to what they
were, (4) it is the same process, with a clean log, (5) no descriptor leaks,
(6) no server is left in a transaction or in a query.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.fault_proxy import wait_until
from tests.support.pooler import Pooler, Row
from tests.support.wire import Raw

BYSTANDER = "bystander"
"""A database entry with a pool of its own, so that a blocked pool does not block the bystander."""

_SETTLE_SECONDS = 10.0
_FD_SLACK = 2
_COUNTED = (
    "cl_active",
    "cl_waiting",
    "cl_active_cancel_req",
    "cl_waiting_cancel_req",
    "sv_active",
    "sv_active_cancel",
    "sv_being_canceled",
    "sv_login",
)

Counters = dict[tuple[object, object], tuple[object, ...]]


def counters(pooler: Pooler) -> Counters:
    """What must return to the baseline, per pool; pools without anything are left out."""

    def line(row: Row) -> tuple[object, ...]:
        return tuple(row.get(column, 0) for column in _COUNTED)

    pools = {(row["database"], row["user"]): line(row) for row in pooler.show("POOLS")}
    return {key: values for key, values in pools.items() if any(values) and key[0] != "pgbouncer"}


def has_several_workers(pooler: Pooler) -> bool:
    """Whether it was started with more than one."""
    return str(pooler.settings.get("workers", 1)) != "1"


def wait_for_all_workers(pooler: Pooler) -> None:
    """Clients are taken as soon as one of them serves."""
    if has_several_workers(pooler):
        wait_until(
            lambda: {row["state"] for row in pooler.show("WORKERS")} == {"running"},
            _SETTLE_SECONDS,
            "all workers run",
        )


def unexplained_fds(pooler: Pooler) -> int:
    """Descriptors that are neither a client's nor a server's socket; a supervisor has copies of servers'."""
    copies = 2 if has_several_workers(pooler) else 1
    sockets = copies * len(pooler.show("SERVERS")) + len(pooler.show("CLIENTS"))
    return pooler.fds() - sockets


def echo(client: Raw) -> None:
    """One query that returns a word made up for it."""
    nonce = secrets.token_hex(8)
    assert client.value(f"select '{nonce}'") == nonce


@contextmanager
def stays_alive(pooler: Pooler, stray_backends: Callable[[], list[str]]) -> Iterator[None]:
    """Checks the law around the body of the `with`; `stray_backends` describes busy servers."""
    wait_for_all_workers(pooler)
    with pooler.raw(BYSTANDER) as bystander:
        echo(bystander)
        pid, mark = pooler.pid, pooler.log_mark()
        before, fds_before = counters(pooler), unexplained_fds(pooler)
        yield
        assert pooler.running(), f"the pooler has ended:\n{pooler.log_tail()}"
        assert pooler.pid == pid
        echo(bystander)
        with pooler.raw(BYSTANDER) as newcomer:
            echo(newcomer)
        _settles(lambda: counters(pooler), before)
        _settles(stray_backends, [])
        wait_until(
            lambda: abs(unexplained_fds(pooler) - fds_before) <= _FD_SLACK,
            _SETTLE_SECONDS,
            f"descriptors back to {fds_before}, are {unexplained_fds(pooler)}",
        )
        pooler.check_log(mark)


def _settles(value: Callable[[], object], wanted: object) -> None:
    seen: list[object] = []

    def settled() -> bool:
        seen[:] = [value()]
        return seen[0] == wanted

    try:
        wait_until(settled, _SETTLE_SECONDS, "settled")
    except AssertionError:
        raise AssertionError(f"wanted {wanted}, is {seen[0]}") from None
