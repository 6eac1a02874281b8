"""What the pipelines of a run had in them: the proof that a run without a difference has tried something.

Law: counted is what PostgreSQL did, not what the author meant.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.conformance.differential.compare import Expectation
from tests.conformance.differential.rules import Mode
from tests.conformance.differential.script import Script

ERRORS, COPIES, FLUSHES = "an error", "COPY", "a Flush without a Sync"
BARS = {ERRORS: 0.30, COPIES: 0.20, FLUSHES: 0.20}
"""The least share of pipelines that must have each."""
MOST_ALLOWED = 0.02
"""Uses of allowances in a pipeline, at most."""
MESSAGES = "PBDECHSQFdcf"
STATUSES = {"session": "ITE", "transaction": "ITE", "statement": "I"}


@dataclass
class Coverage:
    """`seen` counts messages by type and transaction status; `replies` and `sqlstates` what came back."""

    mode: Mode
    pipelines: int = 0
    waits: int = 0
    having: Counter[str] = field(default_factory=Counter)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    replies: Counter[str] = field(default_factory=Counter)
    sqlstates: Counter[str] = field(default_factory=Counter)
    allowed: Counter[str] = field(default_factory=Counter)

    def count(self, script: Script, expected: Expectation, allowed: Sequence[str] = ()) -> None:
        """One pipeline more."""
        account = expected.account
        tags = {reply.tag for reply in account.replies}
        self.pipelines += 1
        self.waits += len(expected.due)
        self.allowed.update(allowed)
        self.having[ERRORS] += b"E" in tags
        self.having[COPIES] += bool(tags & {b"G", b"H"})
        self.having[FLUSHES] += brings_replies(script, expected)
        self.seen.update(zip(account.tags, account.statuses, strict=True))
        self.replies.update(reply.tag.decode() for reply in account.replies)
        for reply in account.replies:
            if reply.tag == b"E":
                fields = reply.body.split(b"\0")
                self.sqlstates.update(part[1:].decode() for part in fields if part[:1] == b"C")

    def missing(self) -> list[str]:
        """What keeps the run from being a proof."""
        short = [
            f"{self.share(what):.1%} of pipelines with {what}, at least {bar:.0%} are wanted"
            for what, bar in BARS.items()
            if self.share(what) < bar
        ]
        wanted = [(tag, status) for tag in MESSAGES for status in STATUSES[self.mode]]
        if self.allowed.total() > MOST_ALLOWED * self.pipelines:
            short.append(f"allowances were used {self.allowed.total()} times")
        unseen = [pair for pair in wanted if not self.seen[pair]]
        return short + [f"no {tag} in transaction status {status}" for tag, status in unseen]

    def share(self, what: str) -> float:
        return self.having[what] / self.pipelines if self.pipelines else 0.0

    def lines(self) -> list[str]:
        """For printing."""
        shares = ", ".join(f"{self.share(what):.1%} with {what}" for what in BARS)
        lines = [
            f"{self.pipelines} pipelines, {sum(self.seen.values())} messages, {self.waits} waits: {shares}"
        ]
        for status in STATUSES[self.mode]:
            counts = " ".join(f"{tag} {self.seen[tag, status]}" for tag in MESSAGES)
            lines.append(f"  in status {status}: {counts}")
        replies = " ".join(f"{tag} {count}" for tag, count in sorted(self.replies.items()))
        errors = " ".join(f"{code} {count}" for code, count in sorted(self.sqlstates.items()))
        lines += [f"  replies: {replies}", f"  errors: {errors}"]
        return lines + [f"  allowed: {what}: {count} times" for what, count in sorted(self.allowed.items())]


def brings_replies(script: Script, expected: Expectation) -> bool:
    """Whether a Flush brought replies that the client waited for before it sent anything more."""
    steps, account = script.all, expected.account
    flushes = (at for at in expected.due if steps[at].tag == "H" and at)
    return any(account.due(at).must > account.due(at - 1).must for at in flushes)
