"""What SHOW TLS and /metrics tell of TLS beyond the connections themselves.

Law: as in `snapshot`, frozen, numbers and text.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.tls_contexts import Shown


@dataclass(frozen=True, slots=True)
class CertificateSnapshot:
    """A certificate in use. `side`: shown to clients or to servers; `expires`: seconds since 1970, `left`:
    from now.
    """

    side: str
    file: str
    subject: str
    expires: int
    left: float

    @property
    def days(self) -> int:
        """Whole days left; negative when it has expired."""
        return int(self.left // 86400)


@dataclass(frozen=True, slots=True)
class TlsSnapshot:
    """`failures`: handshakes that came to nothing since the start, by side."""

    certificates: tuple[CertificateSnapshot, ...] = ()
    failures: Mapping[str, int] = field(default_factory=dict)


def certificates(shown: "Iterable[Shown]", now: float) -> Iterator[CertificateSnapshot]:
    """What is shown, as it stands `now` (s)."""
    for side, file, certificate in shown:
        expires = certificate.expires
        yield CertificateSnapshot(side, file, certificate.subject_text(), expires, expires - now)
