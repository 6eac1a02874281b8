"""The faults, by the file they are in: each is a line that somebody might write in good faith.

Law: a fault names the smallest part of the short form that finds it out, and none is here that nothing finds.
A server that is lent while a cancel is under way stands for a cancel without generation: while the server is
kept, the generation only spares PostgreSQL a request that would hit nobody.
"""

from typing import Final

from tests.conformance.mutants.fault import Fault, Selection

_SUITE: Final = "tests/conformance/"
_OVER: Final = _SUITE + "test_hand_over.py::test_"
_LOST: Final = _SUITE + "cases/test_lost.py::test_"

PIPELINES: Final = Selection(
    _SUITE + "test_differential.py::test_pipelines_are_answered_as_by_postgresql", "transaction"
)
PIPELINED: Final = Selection(_OVER + "a_client_keeps_its_server_until_all_it_has_asked_is_answered")
CONFUSED: Final = Selection(_OVER + "a_server_that_is_confused_by_a_query_within_a_group_is_lent_to_nobody")
IN_ORDER: Final = Selection(_OVER + "what_waits_behind_a_message_that_waits_stays_behind_it")
LEFT_A_QUERY: Final = Selection(
    _OVER + "a_client_that_leaves_in_the_middle_of_its_query_leaves_its_server_to_the_next"
)
EXCHANGES: Final = Selection(_SUITE + "test_exchanges.py")
HOSTILE: Final = Selection(
    _SUITE
    + "test_hostile.py::test_every_way_to_break_the_protocol_concerns_nobody_but_the_client_it_was_meant_for"
)
LEFT: Final = Selection(_LOST + "an_open_transaction_is_rolled_back")
TERMINATED: Final = Selection(_LOST + "idle_servers_that_were_terminated_are_never_handed_out")
TOO_MUCH: Final = Selection(_OVER + "a_server_that_says_more_than_it_owes_serves_nobody_any_more")
LATE_COPY: Final = Selection(_OVER + "copy_data_that_comes_too_late_goes_nowhere")
HALF: Final = Selection(_OVER + "a_server_that_has_half_a_message_is_lent_to_nobody")
LATE_CANCEL: Final = Selection(_OVER + "a_cancel_that_is_late_finds_nobody_else")
WRONG_KEY: Final = Selection(_OVER + "a_key_with_another_secret_cancels_nobody")

_REPLIES: Final = "proxy/session_replies.py"
_REQUESTS: Final = "proxy/session_requests.py"
_WAITING: Final = "proxy/session_waiting.py"
_OUTSTANDING: Final = "protocol/outstanding.py"
_PREPARED: Final = "proxy/prepared.py"
_REPEATS: Final = "proxy/statement_repeats.py"
_SQL: Final = "proxy/statement_sql.py"
_SERVER: Final = "proxy/server.py"
_STATEMENTS: Final = "proxy/pool/statements.py"

FAULTS: Final = (
    Fault(
        "released at the first ReadyForQuery",
        (_REPLIES, "Replies._ready"),
        "            if not owed:",
        "            if True:",
        PIPELINED,
    ),
    Fault(
        "a parameter is not aligned",
        (_WAITING, "Waiting._link"),
        "if server.values is self.values and",
        "if",
        EXCHANGES,
    ),
    Fault(
        "statements are closed in the middle of a transaction",
        (_REQUESTS, "Requests._to_server"),
        "if fresh and odd",
        "if odd",
        EXCHANGES,
    ),
    Fault(
        "released with bytes in the buffer",
        (_REPLIES, "Replies._release"),
        'b"" if stop == len(buffer) else buffer[stop:]',
        'b""',
        TOO_MUCH,
    ),
    Fault(
        "what stands behind the end is thrown away",
        (_SERVER, "Server.judge_trailing"),
        "self._from_idle(data, now)",
        "pass",
        HOSTILE,
    ),
    Fault(
        "an idle server may say anything",
        (_SERVER, "Server._from_idle"),
        "elif tag not in (tags.NOTICE_RESPONSE, tags.NOTIFICATION_RESPONSE):",
        "elif False:",
        HOSTILE,
    ),
    Fault(
        "released with half a request",
        (_REPLIES, "Replies._release"),
        "if self.framer.rest and",
        "if False and",
        HALF,
    ),
    Fault(
        "what comes later overtakes what waits",
        (_WAITING, "Waiting._flush_pieces"),
        "            if self.held is None:",
        "            if True:",
        IN_ORDER,
    ),
    Fault(
        "late COPY data is forwarded",
        (_REQUESTS, "Requests._to_server"),
        "elif not outstanding.may_copy():",
        "elif False:",
        LATE_COPY,
    ),
    Fault(
        "late COPY data takes a server",
        ("proxy/pieces.py", "strip"),
        "if skipping or not (kept or tag in ANSWERED):",
        "if skipping:",
        LATE_COPY,
    ),
    Fault(
        "nothing is skipped behind an error",
        (_OUTSTANDING, "Outstanding.error"),
        "self.skipping = not queue",
        "self.skipping = False",
        PIPELINES,
    ),
    Fault(
        "a Sync during COPY is counted",
        (_OUTSTANDING, "Outstanding.push"),
        "self._ignored_syncs += 1",
        "self.queue.append(request)",
        PIPELINES,
    ),
    Fault(
        "a Sync ahead of COPY is counted",
        (_OUTSTANDING, "Outstanding._begin_copy_in"),
        "while at < len(queue) and queue[at] in _WITHIN_COPY:",
        "while False:",
        PIPELINES,
    ),
    Fault(
        "a known Parse is confirmed in a failed transaction",
        (_PREPARED, "Prepared._parse"),
        "and not self.failed",
        "",
        EXCHANGES,
    ),
    Fault(
        "replies come before they are asked for",
        (_REPEATS, "StatementRepeats._verify"),
        "self.withholds = self._owed_to_client(server.outstanding) > 0",
        "self.withholds = False",
        EXCHANGES,
    ),
    Fault(
        "another client's unnamed statement is called",
        (_SQL, "StatementSql._call_unnamed"),
        "if mine is not None and mine is server.statements.unnamed:",
        "if mine is not None:",
        EXCHANGES,
    ),
    Fault(
        "a text is shared across settings",
        ("proxy/statement_book.py", "StatementBook._statement"),
        "text, values",
        "text, pool.tracked.unknown",
        EXCHANGES,
    ),
    Fault(
        "the name of a failed Parse is kept",
        ("proxy/statement_book.py", "StatementBook._undo"),
        "self._drop(entry)",
        "pass",
        PIPELINES,
    ),
    Fault(
        "a Close that is discarded counts",
        ("proxy/statement_book.py", "StatementBook._undo"),
        "if kind in notes.CLOSING:",
        "if False:",
        EXCHANGES,
    ),
    Fault(
        "a name that was free after all is not taken",
        ("proxy/statement_replies.py", "StatementReplies._parsed_after_all"),
        "if preparation is None:",
        "if True:",
        EXCHANGES,
    ),
    Fault(
        "a DEALLOCATE that is discarded counts",
        (_SQL, "_freeing"),
        "known.closing(note)",
        "known.closed = True",
        EXCHANGES,
    ),
    Fault(
        "a statement that was lost unseen stays lost",
        ("proxy/statement_replies.py", "_tells_of_stale"),
        "if code == _NOT_THERE:",
        "if False:",
        EXCHANGES,
    ),
    Fault(
        "the rows of the new schema are refused to who asks for them",
        (_PREPARED, "Prepared._provide"),
        "if known.stale and not self._mend(server, known, start, buffer, end):",
        "if known.stale:",
        EXCHANGES,
    ),
    Fault(
        "a group is repeated where nobody asked for the new rows",
        ("proxy/statement_replies.py", "StatementReplies._may_repeat"),
        "return code == _NOT_THERE",
        "return True",
        EXCHANGES,
    ),
    Fault(
        "statements of the same rows are called stale",
        ("proxy/statement_replies.py", "StatementReplies._look_otherwise"),
        "if known.statement is statement:",
        "if True:",
        EXCHANGES,
    ),
    Fault(
        "a client reads our names",
        ("proxy/statement_replies.py", "StatementReplies._in_own_words"),
        "if found is None:",
        "if found is not None:",
        PIPELINES,
    ),
    Fault(
        "what is discarded is not undone",
        ("proxy/unnamed.py", "Unnamed.failed"),
        "if not discarded:",
        "if True:",
        PIPELINES,
    ),
    Fault(
        "what stays behind an error is forgotten",
        ("proxy/unnamed.py", "Unnamed.failed"),
        "if later:",
        "if True:",
        EXCHANGES,
    ),
    Fault(
        "a server in a transaction is lent",
        (_SERVER, "Server.unclean"),
        "if self.status != tags.STATUS_IDLE:",
        "if self.status == tags.STATUS_BUSY:",
        LEFT,
    ),
    Fault(
        "what is left to answer to one who has left is not accounted for",
        (_SERVER, "Server._account"),
        "elif tag not in (tags.NOTICE_RESPONSE, tags.NOTIFICATION_RESPONSE):",
        "elif False:",
        LEFT_A_QUERY,
    ),
    Fault(
        "a server that is confused is lent",
        (_SERVER, "Server.unclean"),
        "if not outstanding.settled or outstanding.mixed:",
        "if not outstanding.settled:",
        CONFUSED,
    ),
    Fault(
        "a server that speaks unasked is kept",
        (_SERVER, "Server._from_idle"),
        "elif tag not in (tags.NOTICE_RESPONSE, tags.NOTIFICATION_RESPONSE):",
        "elif False:",
        TOO_MUCH,
    ),
    Fault(
        "lent while a cancel is under way",
        ("proxy/pool/pool.py", "Pool.release"),
        "and not server.cancels",
        "",
        LATE_CANCEL,
    ),
    Fault(
        "the slot of a lost server is lost",
        ("proxy/pool/pool.py", "Pool.forget"),
        "self.open -= 1",
        "pass",
        TERMINATED,
    ),
    Fault(
        "a key with another secret will do",
        ("proxy/cancel.py", "CancelKeys.find"),
        "if hmac.compare_digest(known, secret) else None",
        "",
        WRONG_KEY,
    ),
    Fault(
        "a name is used twice",
        (_STATEMENTS, "Registry.next_name"),
        "self._names += self._step",
        "self._names = self._names % 4 + 1",
        EXCHANGES,
    ),
    Fault(
        "a plan from before a change of the schema is used",
        (_STATEMENTS, "Registry.find"),
        "and known.ddl == ddl",
        "",
        EXCHANGES,
    ),
    Fault(
        "what was closed on a server is taken for prepared",
        (_STATEMENTS, "ServerStatements.retire"),
        "self.remove(preparation)",
        "pass",
        EXCHANGES,
    ),
    Fault(
        "nothing is closed to make room",
        (_STATEMENTS, "ServerStatements.overdue"),
        "self.retire(preparation)",
        "pass",
        EXCHANGES,
    ),
)
