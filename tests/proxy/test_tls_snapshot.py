import pytest

from proxy.certificates import Certificate
from proxy.tls_contexts import Shown
from proxy.tls_snapshot import certificates


@pytest.mark.parametrize(("left", "days"), [(86400 * 2 + 1, 2), (86399, 0), (-1, -1)])
def test_days_left_are_whole_ones(left: int, days: int) -> None:
    certificate = Certificate(((("CN", "a"),),), 1000 + left, "sha256")
    (found,) = certificates([Shown("server", "a.crt", certificate)], 1000)
    assert (found.side, found.file, found.subject, found.left) == ("server", "a.crt", "CN=a", left)
    assert found.days == days
