import pytest

from proxy.certificates import Certificate
from proxy.snapshot import ClientSnapshot, ServerSnapshot
from proxy.tls_contexts import Shown
from proxy.tls_snapshot import certificates, encryption


@pytest.mark.parametrize(("left", "days"), [(86400 * 2 + 1, 2), (86399, 0), (-1, -1)])
def test_days_left_are_whole_ones(left: int, days: int) -> None:
    certificate = Certificate(((("CN", "a"),),), 1000 + left, "sha256")
    (found,) = certificates([Shown("server", "a.crt", certificate)], 1000)
    assert (found.side, found.file, found.subject, found.left) == ("server", "a.crt", "CN=a", left)
    assert found.days == days


def test_connections_are_counted_by_side_version_and_cipher() -> None:
    clients = [ClientSnapshot(1, "active", tls="TLSv1.2/A"), ClientSnapshot(2, "login")]
    servers = [ServerSnapshot(3, "idle", tls="TLSv1.3/B"), ServerSnapshot(4, "idle", tls="TLSv1.3/B")]
    assert encryption(clients, servers) == {
        ("client", "TLSv1.2", "A"): 1,
        ("client", "", ""): 1,
        ("server", "TLSv1.3", "B"): 2,
    }
