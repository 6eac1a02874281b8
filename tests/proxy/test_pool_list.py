from proxy.pool_list import joined
from proxy.snapshot import PoolSnapshot


def test_two_pools_of_one_role_are_one_row() -> None:
    own = PoolSnapshot("app", "asker", cl_active=2, cl_waiting=1, sv_idle=3, waited=5, pool_mode="session")
    asking = PoolSnapshot("app", "asker", cl_waiting=4, sv_active=1, waited=7, pool_mode="transaction")
    (row,) = joined([own, asking])
    assert (row.cl_active, row.cl_waiting, row.sv_idle, row.sv_active) == (2, 5, 3, 1)
    assert (row.waited, row.pool_mode) == (7, "session")


def test_others_stay_as_they_are_and_in_their_order() -> None:
    rows = [PoolSnapshot("app", "alice"), PoolSnapshot("other", "alice"), PoolSnapshot("app", "bob")]
    assert joined(rows) == rows
