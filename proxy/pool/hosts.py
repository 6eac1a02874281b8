"""Which host of a list comes next, and whether it may be tried.

All pools share one backoff for each host, so that a host that is down is probed once and not by every pool. A
host whose TLS was not good enough for one pool may be so for another: that is remembered by its settings.
"""

from config.effective import PoolSettings
from config.tls import ServerTls
from proxy.pool.backoff import FIRST, LONGEST, Backoff, Random
from proxy.pool.interfaces import Host

DEFAULT_UNIX_SOCKET_DIR = "/tmp"


class Hosts:
    """Backoffs by host, and where each list of hosts stands in its round (load_balance_hosts)."""

    def __init__(self, random: Random, unix_socket_dir: str = DEFAULT_UNIX_SOCKET_DIR) -> None:
        self._random = random
        self._backoffs: dict[Host, Backoff] = {}
        self._turns: dict[tuple[Host, ...], int] = {}
        self._distrusted: dict[tuple[Host, ServerTls], int] = {}
        self._unix_socket_dir = unix_socket_dir

    def of(self, settings: PoolSettings) -> tuple[Host, ...]:
        """The hosts of a pool, in the order of its list."""
        names = settings.hosts or (self._unix_socket_dir,)
        return tuple(Host(name, settings.port) for name in names)

    def choose(self, settings: PoolSettings, now: int) -> Host | None:
        """The next host that may be tried now; None while all of them wait. Time in nanoseconds."""
        hosts = self.of(settings)
        turn = self._turns.get(hosts, 0)
        for offset in range(len(hosts)):
            at = (turn + offset) % len(hosts)
            if self._distrusted_until(hosts[at], settings) <= now and self.backoff(hosts[at]).may_try(now):
                stay = settings.load_balance_hosts == "disable"
                self._turns[hosts] = at if stay else at + 1
                return hosts[at]
        return None

    def failing(self, settings: PoolSettings) -> bool:
        """Whether no host of the pool is known to be well."""
        return all(self.backoff(host).failing for host in self.of(settings))

    def retry_at(self, settings: PoolSettings, now: int) -> int:
        """When (ns) to ask again for a host: while another pool probes one, in a moment."""
        return min(self._retry_at(host, settings, now) for host in self.of(settings))

    def _retry_at(self, host: Host, settings: PoolSettings, now: int) -> int:
        backoff = self.backoff(host)
        at = now + FIRST if backoff.probing else backoff.retry_at
        return max(at, self._distrusted_until(host, settings))

    def error(self, settings: PoolSettings) -> str:
        """What went wrong last, for those who ask why nothing comes."""
        return next((text for host in self.of(settings) if (text := self.backoff(host).error)), "")

    def distrust(self, host: Host, settings: PoolSettings, until: int, now: int) -> bool:
        """Leave a host alone until then (ns), for its TLS will not do; returns whether another is left.

        In a list at least for a while, or its hosts would take turns without a pause.
        """
        others = [other for other in self.of(settings) if other != host]
        self._distrusted[host, settings.tls] = max(until, now + LONGEST) if others else until
        return any(self._distrusted_until(other, settings) <= now for other in others)

    def trust_again(self) -> None:
        """Settings or certificates may have changed: what was wrong may be right now."""
        self._distrusted.clear()

    def _distrusted_until(self, host: Host, settings: PoolSettings) -> int:
        return self._distrusted.get((host, settings.tls), 0)

    def started(self, host: Host) -> None:
        """A connection is being tried."""
        self.backoff(host).started()

    def backoff(self, host: Host) -> Backoff:
        """The backoff of a host."""
        known = self._backoffs.get(host)
        if known is None:
            known = self._backoffs[host] = Backoff(self._random)
        return known
