"""A console with its two ends in the hands of a test."""

import asyncio
import struct

from proxy.admin.commands import Identity
from proxy.admin.console import Console
from proxy.control import Control
from tests.proxy.fakes import FakeDaemon, FakeSnapshots
from tests.support.messages import Message

ADMIN = Identity(31, "alice", True, False, "10.0.0.7:5000")
STATS = Identity(32, "bob", False, True, "10.0.0.8:5000")


class Admin:
    """Sends bytes to a console and reads what it answers."""

    def __init__(self, identity: Identity = ADMIN, snapshots: FakeSnapshots | None = None) -> None:
        self.daemon = FakeDaemon()
        self.snapshots = snapshots or FakeSnapshots()
        self.control = Control(self.daemon)
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self.console = Console(identity, self._write, self._close, self.snapshots, self.control)

    def _write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data
        self.writes += 1

    def _close(self) -> None:
        self.closed = True

    async def ask(self, *messages: bytes) -> list[Message]:
        """Send messages at once; return what has come when nothing more comes."""
        self.console.receive(b"".join(messages))
        await self.settle()
        return self.read()

    async def settle(self) -> None:
        """Let the console run until it waits for something."""
        quiet, before = 0, -1
        while quiet < 20:
            quiet = quiet + 1 if before == self.writes else 0
            before = self.writes
            await asyncio.sleep(0)

    def read(self) -> list[Message]:
        """Take the whole messages written so far."""
        found, at = [], 0
        while at < len(self.written):
            (length,) = struct.unpack_from("!I", self.written, at + 1)
            assert at + 1 + length <= len(self.written), "a message is not whole"
            found.append(
                Message(bytes(self.written[at : at + 1]), bytes(self.written[at + 5 : at + 1 + length]))
            )
            at += 1 + length
        self.written.clear()
        return found
