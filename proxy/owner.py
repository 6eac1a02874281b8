"""Who a connection belongs to, and hears what becomes of it."""

from typing import Final, Protocol


class Owner(Protocol):
    """Who a connection belongs to."""

    def connected(self) -> None:
        """The transport is there."""
        ...

    def writing_paused(self) -> None:
        """More than WRITE_HIGH bytes are unsent."""
        ...

    def writing_resumed(self) -> None:
        """Fewer than WRITE_LOW bytes are unsent."""
        ...

    def failed(self, error: Exception) -> None:
        """A receiver raised: ProtocolError if the other side is to blame."""
        ...

    def lost(self) -> None:
        """The connection is closed; called once."""
        ...


class _Nobody:
    """The owner of a connection that is closed."""

    def connected(self) -> None: ...
    def writing_paused(self) -> None: ...
    def writing_resumed(self) -> None: ...
    def failed(self, error: Exception) -> None: ...
    def lost(self) -> None: ...


NOBODY: Final = _Nobody()
