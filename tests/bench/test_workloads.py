import pytest

from tests.bench.accounting import NOTHING, Cpu
from tests.bench.workloads import per_transaction


def test_cpu_is_counted_per_transaction_and_user_space_gets_its_share() -> None:
    assert per_transaction(Cpu(2.0, 0.5, 1.5), 1000) == pytest.approx({"cpu": 0.002, "user": 0.0005})


def test_logins_are_not_billed_to_transactions() -> None:
    assert per_transaction(Cpu(2.0, 1.0, 1.0), 100, logins=0.5)["cpu"] == pytest.approx(0.015)


def test_less_than_a_tick_has_no_division() -> None:
    assert per_transaction(Cpu(0.004, 0.0, 0.0), 4) == {"cpu": 0.001, "user": 0.0}


@pytest.mark.parametrize(("spent", "count"), [(NOTHING, 100), (Cpu(1.0, 1.0, 0.0), 0)])
def test_without_a_pooler_or_without_transactions_there_is_no_figure(spent: Cpu, count: int) -> None:
    assert per_transaction(spent, count) == {}
