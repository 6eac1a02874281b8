"""Requests a server still owes a reply to, and notes about those whose reply is not simply passed on.

Laws of this file:
- Every message that PostgreSQL answers is pushed here before it is written, in the order in which it is
  written.
- A reply pops what it completes (`COMPLETES`); a reply that the request at the head cannot have is a fault of
  the stream, never a guess.
- What PostgreSQL throws away unanswered (the group behind an error, Syncs while it takes COPY data) is not
  owed.
"""

from collections import deque
from typing import Final

from protocol import tags
from protocol.errors import UnexpectedMessage

NOTED: Final = 0x100
"""Added to the tag of a request about which there is a note: its reply is not simply passed on."""

_TAG: Final = 0xFF

MAX_OUTSTANDING: Final = 10_000
"""Above this many requests the client is read no further until replies have come."""

# Whether COPY data was sent before the server asked for it, and what first came behind that: a Sync, or its
# end.
NOTHING_EARLY: Final = 0
DATA_EARLY: Final = 1
SYNC_EARLY: Final = 2
END_EARLY: Final = 3


def _completes() -> tuple[int, ...]:
    pairs = {
        tags.PARSE_COMPLETE: tags.PARSE,
        tags.BIND_COMPLETE: tags.BIND,
        tags.CLOSE_COMPLETE: tags.CLOSE,
        tags.ROW_DESCRIPTION: tags.DESCRIBE,
        tags.NO_DATA: tags.DESCRIBE,
        tags.COMMAND_COMPLETE: tags.EXECUTE,
        tags.EMPTY_QUERY_RESPONSE: tags.EXECUTE,
        tags.PORTAL_SUSPENDED: tags.EXECUTE,
        tags.READY_FOR_QUERY: tags.SYNC,
    }
    return tuple(pairs.get(tag, 0) for tag in range(256))


COMPLETES: Final = _completes()
"""Reply tag -> tag of the request it completes; 0 for replies that complete nothing."""

# What a simple Query may be answered with before its ReadyForQuery, and a FunctionCall.
_WITHIN_QUERY: Final = frozenset(
    (
        tags.ROW_DESCRIPTION,
        tags.COMMAND_COMPLETE,
        tags.EMPTY_QUERY_RESPONSE,
        tags.COPY_IN_RESPONSE,
        tags.COPY_OUT_RESPONSE,
    )
)
# So many requests are searched for one that may ask for COPY data.
_SEARCHED: Final = 64
_OF_ROWS: Final = frozenset((tags.QUERY, tags.EXECUTE))
_COPY_START: Final = frozenset((tags.COPY_IN_RESPONSE, tags.COPY_OUT_RESPONSE))
_ENDS_IN_READY: Final = frozenset((tags.SYNC, tags.QUERY, tags.FUNCTION_CALL))
_COPY_END: Final = frozenset((tags.COPY_DONE, tags.COPY_FAIL))


class Outstanding:
    """What one server owes.

    `skipping`: an extended message failed and its Sync has not been pushed, so PostgreSQL discards what it is
    sent. `copying`: the server takes COPY data. `settled`: False once it can no longer be told how many
    ReadyForQuery are to come; such a server must not be used again, nor one with `mixed`, after a simple
    Query behind an Execute. `blurred`: a Sync was sent behind COPY data; should that COPY fail, nobody can
    tell which replies are whose. Whoever sends COPY data sets `data_sent` while `copying` holds, and calls
    `data_came_early` while it does not yet. `notes` are those of the NOTED entries of `queue`, in their
    order; what they are is the business of whoever made them.
    """

    __slots__ = (
        "_early_groups",
        "_end_sent",
        "_ignored_syncs",
        "blurred",
        "copying",
        "data_sent",
        "early",
        "mixed",
        "notes",
        "queue",
        "settled",
        "skipping",
    )

    def __init__(self) -> None:
        self.queue: deque[int] = deque()
        self.notes: deque[object] = deque()
        self.skipping = False
        self.copying = False
        self.settled = True
        self.mixed = False
        self.blurred = False
        self.data_sent = False
        self.early = NOTHING_EARLY
        self._end_sent = False
        self._early_groups = 0
        self._ignored_syncs = 0

    def __repr__(self) -> str:
        owed = " ".join(chr(entry & _TAG) + "*" * (entry >> 8) for entry in self.queue)
        return f"<Outstanding [{owed}]{' copying' * self.copying}{' skipping' * self.skipping}>"

    def note(self, request: int, note: object) -> None:
        """Push a request about which there is something to remember until it is answered or thrown away."""
        self.queue.append(request | NOTED)
        self.notes.append(note)

    def query_follows(self, busy: bool) -> None:
        """A simple Query or a FunctionCall is about to be pushed. `busy`: no ReadyForQuery has come since
        something was sent.

        Behind an Execute without a Sync PostgreSQL loses track of its transaction: it says that it is idle
        and is not (seen with 18.4). Nobody else should meet such a server.
        """
        if busy and not self.queue and not self.skipping:
            self.mixed = True
        for request in reversed(self.queue):
            if request & _TAG in _ENDS_IN_READY:
                return
            if request & _TAG == tags.EXECUTE:
                self.mixed = True
                return

    def data_came_early(self) -> None:
        """COPY data is about to be sent that the server has not asked for yet."""
        for request in reversed(self.queue):
            if request & _TAG == tags.COPY_FAIL:
                # The COPY that may begin ends there.
                return
            if request & _TAG in _OF_ROWS:
                break
        self.early = self.early or DATA_EARLY
        self._early_groups = sum(request & _TAG in _ENDS_IN_READY for request in self.queue)

    def group_over(self) -> None:
        """A ReadyForQuery came while `early` is set: data for the group before it was for nothing."""
        if not self.queue or not self._early_groups:
            self.early = NOTHING_EARLY
        else:
            self._early_groups -= 1

    def push(self, request: int) -> None:
        """Take down a request about to be written, by its tag."""
        if self.skipping:
            if request & _TAG != tags.SYNC:
                return
            self.skipping = False
        elif self.copying and not self._end_sent:
            if request == tags.SYNC:
                self._ignored_syncs += 1
                self.blurred = self.blurred or self.data_sent
                return
            self._end_sent = request in _COPY_END
        if self.early == DATA_EARLY and request == tags.SYNC:
            self.early = SYNC_EARLY
        elif self.early == DATA_EARLY and request in _COPY_END:
            self.early = END_EARLY
        self.queue.append(request)

    def reply(self, tag: int) -> object | None:
        """Account for a reply; return the note of the request it belongs to, if there is one.

        Raises UnexpectedMessage for a reply that nobody is owed.
        """
        queue = self.queue
        while queue:
            head = queue[0]
            request = head & _TAG
            if request == COMPLETES[tag]:
                queue.popleft()
                if tag == tags.COMMAND_COMPLETE:
                    self.copying = False
                elif queue and tag == tags.READY_FOR_QUERY:
                    self.drop_copy_ends()
                return self.notes.popleft() if head & NOTED else None
            if request == tags.QUERY:
                if tag == tags.READY_FOR_QUERY:
                    queue.popleft()
                    self.copying = False
                    self.drop_copy_ends()
                    return self.notes.popleft() if head & NOTED else None
                if tag not in _WITHIN_QUERY:
                    break
                if tag == tags.COPY_IN_RESPONSE:
                    self._begin_copy_in()
                elif tag == tags.COMMAND_COMPLETE and self.copying:
                    self._end_copy_in()
                return self.notes[0] if head & NOTED else None
            if request == tags.EXECUTE and tag in _COPY_START:
                if tag == tags.COPY_IN_RESPONSE:
                    self._begin_copy_in()
                return None
            if request == tags.FUNCTION_CALL and tag in (tags.FUNCTION_CALL_RESPONSE, tags.READY_FOR_QUERY):
                if tag == tags.READY_FOR_QUERY:
                    queue.popleft()
                    self.drop_copy_ends()
                return None
            if request == tags.DESCRIBE and tag == tags.PARAMETER_DESCRIPTION:
                return self.notes[0] if head & NOTED else None
            if request not in _COPY_END:
                break
            self.drop_copy_ends()
        raise UnexpectedMessage(f"server sent {chr(tag)!r} while {self!r} was owed")

    def rows(self) -> None:
        """Account for rows or COPY data. Raises UnexpectedMessage where nothing is being executed."""
        queue = self.queue
        if not self.copying:
            self.drop_copy_ends()
        if not queue or queue[0] & _TAG not in _OF_ROWS:
            raise UnexpectedMessage(f"server sent rows while {self!r} was owed")

    def error(self) -> tuple[object | None, list[object]]:
        """Account for an ErrorResponse: return the note of the request that failed, if there is one, and the
        notes of all requests that will not be answered, that one included.

        Raises UnexpectedMessage if nothing was owed.
        """
        queue = self.queue
        self.drop_copy_ends()
        if not queue:
            raise UnexpectedMessage("server sent an error while nothing was owed")
        failed = self.notes[0] if queue[0] & NOTED else None
        if self.copying:
            self.copying = False
            # Whether it had read those Syncs, or will answer them now, cannot be known.
            self.settled = self.settled and not self._ignored_syncs
            self._ignored_syncs = 0
        unanswered = []
        if queue[0] & _TAG not in _ENDS_IN_READY:
            while queue and queue[0] & _TAG != tags.SYNC:
                request = queue.popleft()
                if request & NOTED:
                    unanswered.append(self.notes.popleft())
                if request & _TAG == tags.QUERY:
                    self.mixed = False
            self.skipping = not queue
        return failed, unanswered

    def discards(self) -> bool:
        """Whether PostgreSQL does not act on what it is sent now: it waits for a Sync, or for COPY data."""
        return self.skipping or (self.copying and not self._end_sent)

    def ends_in_ready(self) -> bool:
        """Whether everything owed ends with a ReadyForQuery, so that the server can be waited for."""
        return bool(
            self.queue
            and not self.copying
            and self.settled
            and not self.mixed
            and self.queue[-1] & _TAG in _ENDS_IN_READY
        )

    def can_flush(self) -> bool:
        """Whether a Flush would make PostgreSQL send anything: not behind a Sync or Query, which flush by
        themselves.
        """
        return bool(self.queue) and self.queue[-1] & _TAG not in _ENDS_IN_READY

    def may_copy(self) -> bool:
        """Whether COPY data sent now may be wanted: the server takes it, or owes what may ask for it.

        Where nothing asks, PostgreSQL ignores it. A long queue is not searched: that would cost a chunk of
        many short messages time by the square of their number.
        """
        if self.copying or len(self.queue) > _SEARCHED:
            return True
        return any(request & _TAG in _OF_ROWS for request in self.queue)

    def drop_copy_ends(self) -> None:
        """PostgreSQL answers no CopyDone or CopyFail by itself; outside of COPY it ignores them."""
        queue = self.queue
        while queue and queue[0] & _TAG in _COPY_END:
            queue.popleft()

    def _begin_copy_in(self) -> None:
        """The server has entered copy-in: until CopyDone or CopyFail it reads Syncs and ignores them."""
        self.copying = True
        self.blurred = self.early == SYNC_EARLY
        self.data_sent = self.early != NOTHING_EARLY
        self.early = NOTHING_EARLY
        self._ignored_syncs = 0
        queue = self.queue
        while len(queue) > 1 and queue[1] == tags.SYNC:
            del queue[1]
            self._ignored_syncs += 1
        self._end_sent = len(queue) > 1 and queue[1] in _COPY_END

    def _end_copy_in(self) -> None:
        """One COPY of a simple query is complete: its CopyDone has been read, and another may follow."""
        self.copying = False
        if len(self.queue) > 1 and self.queue[1] in _COPY_END:
            del self.queue[1]
