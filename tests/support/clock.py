"""A clock that stands still until a test moves it."""

SECOND = 1_000_000_000


class Clock:
    """Nanoseconds, like every clock of the pooler."""

    def __init__(self, now: int = 1000 * SECOND) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> int:
        """Let time pass; return what it is then."""
        self.now += int(seconds * SECOND)
        return self.now
