import pytest

from config.effective import PoolSettings
from proxy.pool.backoff import FIRST, LONGEST
from proxy.pool.hosts import DEFAULT_UNIX_SOCKET_DIR, Hosts
from proxy.pool.interfaces import Host
from tests.support.doubles import Steady, make_settings


def pool_settings(host: str | None, balance: str = "round-robin") -> PoolSettings:
    entry = {"host": host, "port": 5433, "load_balance_hosts": balance}
    return make_settings(databases={"app": entry}).for_pool("app", "alice")


def fail(hosts: Hosts, name: str, at: int = 0) -> None:
    hosts.started(Host(name, 5433))
    hosts.backoff(Host(name, 5433)).failed(at, f"{name} refused")


def chosen(hosts: Hosts, settings: PoolSettings, times: int, now: int = 0) -> str:
    found = [hosts.choose(settings, now) for _ in range(times)]
    return "".join(host.name if host else "-" for host in found)


def test_hosts_have_the_order_of_their_list_and_one_port() -> None:
    assert Hosts(Steady()).of(pool_settings("a, b")) == (Host("a", 5433), Host("b", 5433))


@pytest.mark.parametrize("directory", ["/run/postgresql", "@abstract"])
def test_no_host_means_the_unix_socket_in_its_directory(directory: str) -> None:
    assert Hosts(Steady(), directory).of(pool_settings(None)) == (Host(directory, 5433),)


def test_the_unix_socket_is_in_tmp_unless_told() -> None:
    assert Hosts(Steady()).of(pool_settings(None)) == (Host(DEFAULT_UNIX_SOCKET_DIR, 5433),)


def test_hosts_take_turns() -> None:
    assert chosen(Hosts(Steady()), pool_settings("a,b,c"), 7) == "abcabca"


def test_two_pools_with_the_same_hosts_share_the_round() -> None:
    hosts = Hosts(Steady())
    assert chosen(hosts, pool_settings("a,b"), 1) + chosen(hosts, pool_settings("a,b"), 1) == "ab"
    assert chosen(hosts, pool_settings("b,a"), 1) == "b"


def test_without_load_balancing_one_host_is_kept_until_it_fails() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a,b,c", "disable")

    assert chosen(hosts, settings, 3) == "aaa"
    fail(hosts, "a")
    assert chosen(hosts, settings, 3) == "bbb"
    hosts.backoff(Host("a", 5433)).succeeded()
    assert chosen(hosts, settings, 2) == "bb"


def test_a_failing_host_is_passed_over_until_it_may_be_probed() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a,b")
    fail(hosts, "a")

    assert chosen(hosts, settings, 3) == "bbb"
    assert not hosts.failing(settings)
    assert chosen(hosts, settings, 1, FIRST) == "a"


def test_while_all_hosts_wait_none_is_chosen() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a,b")
    fail(hosts, "a", 0)
    fail(hosts, "b", 10)

    assert chosen(hosts, settings, 1, FIRST - 1) == "-"
    assert hosts.failing(settings)
    assert hosts.retry_at(settings, 20) == FIRST
    assert hosts.error(settings) == "a refused"


def test_while_another_pool_probes_the_question_is_put_again_in_a_moment() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a")
    fail(hosts, "a")
    hosts.started(Host("a", 5433))

    assert chosen(hosts, settings, 1, 10 * FIRST) == "-"
    assert hosts.retry_at(settings, 10 * FIRST) == 11 * FIRST


def test_hosts_that_are_well_have_no_error() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a,b")
    assert hosts.error(settings) == ""
    fail(hosts, "b")
    assert hosts.error(settings) == "b refused"


def test_a_port_of_its_own_is_a_host_of_its_own() -> None:
    hosts = Hosts(Steady())
    assert hosts.backoff(Host("a", 1)) is hosts.backoff(Host("a", 1))
    assert hosts.backoff(Host("a", 1)) is not hosts.backoff(Host("a", 2))


def test_a_host_that_is_not_trusted_is_left_alone_until_its_time_has_come() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a,b")
    soon, later = 10 * LONGEST, 20 * LONGEST
    assert hosts.distrust(Host("a", 5433), settings, soon, now=0)
    assert chosen(hosts, settings, 3) == "bbb"
    assert not hosts.failing(settings)
    assert not hosts.distrust(Host("b", 5433), settings, later, now=0), "no other is left"
    assert chosen(hosts, settings, 2, now=soon - 1) == "--"
    assert hosts.retry_at(settings, 0) == soon
    assert chosen(hosts, settings, 2, now=soon) == "aa"
    assert chosen(hosts, settings, 2, now=later) == "ba"


def test_hosts_that_are_not_trusted_do_not_take_turns_without_a_pause() -> None:
    """With server_login_retry = 0 the time to leave them alone is over at once."""
    hosts, settings = Hosts(Steady()), pool_settings("a,b")
    assert hosts.distrust(Host("a", 5433), settings, until=5, now=5)
    assert not hosts.distrust(Host("b", 5433), settings, until=5, now=5)
    assert hosts.retry_at(settings, 5) == 5 + LONGEST
    alone = pool_settings("c")
    assert not hosts.distrust(Host("c", 5433), alone, until=5, now=5)
    assert chosen(hosts, alone, 1, now=5) == "c", "whoever comes next tries it"


def test_a_host_is_not_trusted_by_those_with_the_same_settings_only() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a")
    entry = {"host": "a", "port": 5433, "sslmode": "require"}
    lenient = make_settings(databases={"app": entry}).for_pool("app", "alice")
    hosts.distrust(Host("a", 5433), settings, until=10, now=0)
    assert (chosen(hosts, settings, 1), chosen(hosts, lenient, 1)) == ("-", "a")


def test_settings_that_are_read_anew_are_trusted_anew() -> None:
    hosts, settings = Hosts(Steady()), pool_settings("a")
    hosts.distrust(Host("a", 5433), settings, until=10, now=0)
    hosts.trust_again()
    assert chosen(hosts, settings, 1) == "a"


@pytest.mark.parametrize(
    ("name", "local"), [("/run", True), ("@abstract", True), ("db.example", False), ("::1", False)]
)
def test_a_directory_and_an_abstract_name_are_on_this_machine(name: str, local: bool) -> None:
    assert Host(name, 5432).local is local
