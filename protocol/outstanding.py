"""Requests a server still owes a reply to, and notes about those whose reply is not simply passed on.

Laws of this file:
- Every message that PostgreSQL answers is pushed here before it is written, in the order in which it is
  written.
- A reply pops what it completes (`COMPLETES`); a reply that the request at the head cannot have is a fault of
  the stream, never a guess.
- What PostgreSQL throws away unanswered (the group behind an error, Syncs while it takes COPY data) is not
  owed.
"""

from typing import Final

from protocol import tags
from protocol.errors import UnexpectedMessage

NOTED: Final = 0x100
"""Added to the tag of a request about which there is a note: its reply is not simply passed on."""

_TAG: Final = 0xFF

MAX_OUTSTANDING: Final = 10_000
"""Above this many requests the client is read no further until replies have come."""


def _completes() -> bytes:
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
    return bytes(pairs.get(tag, 0) for tag in range(256))


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
_WITHIN_COPY: Final = frozenset((tags.COPY_DATA, tags.SYNC))
OF_COPY: Final = _COPY_END | {tags.COPY_DATA}
"""Tags of what PostgreSQL answers by nothing."""
# Fields of an ErrorResponse: those of a CopyFail, whose code a cancel has, too; any of which tells that data
# may have been read, a context with its line number, or a code of what waits or reads binary data; and what,
# without those, tells that none was, as where a view cannot be copied to. (A constraint that is checked when
# all has been read gives no context either.)
_BY_COPY_FAIL: Final = (b"\0C57014\0", b"\0RCopyGetData\0")
_WHILE_READING: Final = (b"\0W", b"\0C22P04\0", b"\0C57", b"\0C08")
_BEFORE_READING: Final = b"\0RCopyFrom\0"


class Outstanding:
    """What one server owes.

    `skipping`: an extended message failed and its Sync has not been pushed, so PostgreSQL discards what it is
    sent. `copying`: the server takes COPY data. `settled`: False once it can no longer be told how many
    ReadyForQuery are to come; such a server must not be used again, nor one with `mixed`, after a simple
    Query behind an Execute. `blurred`: a Sync was sent among the data of the COPY under way; should its data
    be bad, nobody can tell whether that Sync is answered. COPY data that the server has not asked for yet
    stands in `queue`, once for all of it in a row. `notes` are those of the NOTED entries of `queue`, in
    their order; what they are is the business of whoever made them.

    `queue` is a list, which compiled code reads at a fifth of the price of a deque; so entries leave it many
    at a time wherever there may be many.
    """

    __slots__ = (
        "_data_sent",
        "_end_sent",
        "_ignored_syncs",
        "blurred",
        "copying",
        "mixed",
        "notes",
        "queue",
        "settled",
        "skipping",
    )

    def __init__(self) -> None:
        self.queue: list[int] = []
        self.notes: list[object] = []
        self.skipping = False
        self.copying = False
        self.settled = True
        self.mixed = False
        self.blurred = False
        self._data_sent = False
        self._end_sent = False
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

    def data(self) -> None:
        """COPY data is about to be sent."""
        if self.copying and not self._end_sent:
            self._data_sent = True
        elif self.queue and self.queue[-1] != tags.COPY_DATA:
            self.queue.append(tags.COPY_DATA)

    def push(self, request: int) -> None:
        """Take down a request about to be written, by its tag."""
        if self.skipping:
            if request & _TAG != tags.SYNC:
                return
            self.skipping = False
        elif self.copying and not self._end_sent:
            if request == tags.SYNC:
                self._ignored_syncs += 1
                self.blurred = self.blurred or self._data_sent
                return
            self._end_sent = request in _COPY_END
        self.queue.append(request)

    def answered(self, count: int) -> int:
        """So many at the head of `queue` are answered; returns how many of them are left there."""
        if count == len(self.queue):
            self.queue.clear()
        elif count:
            del self.queue[:count]
        return 0

    def reply(self, tag: int) -> object | None:
        """Account for a reply; return the note of the request it belongs to, if there is one.

        Raises UnexpectedMessage for a reply that nobody is owed.
        """
        queue = self.queue
        while queue:
            head = queue[0]
            request = head & _TAG
            if request == COMPLETES[tag]:
                queue.pop(0)
                if tag == tags.COMMAND_COMPLETE:
                    self.copying = False
                elif queue and tag == tags.READY_FOR_QUERY:
                    self.drop_ignored()
                return self.notes.pop(0) if head & NOTED else None
            if request == tags.QUERY:
                if tag == tags.READY_FOR_QUERY:
                    queue.pop(0)
                    self.copying = False
                    self.drop_ignored()
                    return self.notes.pop(0) if head & NOTED else None
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
                    queue.pop(0)
                    self.drop_ignored()
                return None
            if request == tags.DESCRIBE and tag == tags.PARAMETER_DESCRIPTION:
                return self.notes[0] if head & NOTED else None
            if request not in OF_COPY:
                break
            self.drop_ignored()
        raise UnexpectedMessage(f"server sent {chr(tag)!r} while {self!r} was owed", tag=tag)

    def rows(self) -> None:
        """Account for rows or COPY data. Raises UnexpectedMessage where nothing is being executed."""
        queue = self.queue
        if not self.copying:
            self.drop_ignored()
        if not queue or queue[0] & _TAG not in _OF_ROWS:
            raise UnexpectedMessage(f"server sent rows while {self!r} was owed", tag=tags.DATA_ROW)

    def copy_failed(self, fields: bytes) -> None:
        """About to be accounted for is an error with these fields, all of it. If that is of a COPY from the
        client, they may tell what became of the Syncs behind it.
        """
        if not self.copying or not self._ignored_syncs:
            return
        if all(mark in fields for mark in _BY_COPY_FAIL):
            # They stood before the CopyFail.
            self._ignored_syncs = 0
            self.blurred = False
        elif (_BEFORE_READING in fields or not self._end_sent) and not any(
            mark in fields for mark in _WHILE_READING
        ):
            # They were not read by the COPY, so they are answered.
            self.queue[1:1] = [tags.SYNC] * self._ignored_syncs
            self._ignored_syncs = 0
            self.blurred = False

    def error(self) -> tuple[object | None, list[object]]:
        """Account for an ErrorResponse: return the note of the request that failed, if there is one, and the
        notes of all requests that will not be answered, that one included.

        Raises UnexpectedMessage if nothing was owed.
        """
        queue = self.queue
        self.drop_ignored()
        if not queue:
            raise UnexpectedMessage("server sent an error while nothing was owed", tag=tags.ERROR_RESPONSE)
        failed = self.notes[0] if queue[0] & NOTED else None
        if self.copying:
            self.copying = False
            # Whether it had read those Syncs, or will answer them now, cannot be known.
            self.settled = self.settled and not self._ignored_syncs
            self._ignored_syncs = 0
        unanswered: list[object] = []
        if queue[0] & _TAG not in _ENDS_IN_READY:
            count = noted = 0
            for request in queue:
                if request & _TAG == tags.SYNC:
                    break
                count += 1
                if request & NOTED:
                    noted += 1
                if request & _TAG == tags.QUERY:
                    self.mixed = False
            self.answered(count)
            unanswered = self.notes[:noted]
            del self.notes[:noted]
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

    def drop_ignored(self) -> None:
        """PostgreSQL answers no CopyData, CopyDone or CopyFail by itself; outside of COPY it ignores them."""
        queue = self.queue
        if not queue or queue[0] not in OF_COPY:
            return
        count = 1
        while count < len(queue) and queue[count] in OF_COPY:
            count += 1
        self.answered(count)

    def _begin_copy_in(self) -> None:
        """The server has entered copy-in: until CopyDone or CopyFail it reads Syncs and ignores them."""
        self.copying = True
        self.blurred = self._data_sent = False
        self._ignored_syncs = 0
        queue = self.queue
        at = 1
        while at < len(queue) and queue[at] in _WITHIN_COPY:
            if queue[at] == tags.COPY_DATA:
                self._data_sent = True
            else:
                self._ignored_syncs += 1
                self.blurred = self._data_sent
            at += 1
        del queue[1:at]
        self._end_sent = len(queue) > 1 and queue[1] in _COPY_END

    def _end_copy_in(self) -> None:
        """One COPY of a simple query is complete: its CopyDone has been read, and another may follow."""
        self.copying = False
        if len(self.queue) > 1 and self.queue[1] in _COPY_END:
            del self.queue[1]
