"""The account of PostgreSQL's replies, the normaliser, the comparison, the coverage: without any server."""

import struct

import pytest

from tests.conformance.differential import report
from tests.conformance.differential.account import OUTPUT_BUFFER, Account, Due, Unexplained
from tests.conformance.differential.compare import (
    EARLY,
    FAILED,
    GONE,
    MISSING,
    MORE,
    OTHER,
    Expectation,
    Follower,
)
from tests.conformance.differential.coverage import COPIES, ERRORS, FLUSHES, Coverage
from tests.conformance.differential.normal import FIRST_USER_OID, Normaliser, fields
from tests.conformance.differential.script import Script, Step, Wait
from tests.support import messages as m
from tests.support.messages import Message

BODIES = {"Z": b"I", "E": b"SERROR\0VERROR\0C22012\0Mno\0\0", "C": b"SELECT 1\0", "T": b"\0\0", "t": b"\0\0"}


def replies(tags: str) -> list[Message]:
    """One of each; a letter behind Z is its transaction status."""
    out: list[Message] = []
    for tag in tags:
        if tag in "IT" and out and out[-1].tag == b"Z":
            out[-1] = Message(b"Z", tag.encode())
        else:
            out.append(Message(tag.encode(), BODIES.get(tag, b"")))
    return out


REQUESTS = {
    "P": m.parse("a", "select 1"),
    "B": m.bind("", "a"),
    "D": m.describe(b"S", "a"),
    "u": m.describe(b"S", ""),
    "E": m.execute(),
    "C": m.close(b"S", "a"),
    "H": m.flush(),
    "S": m.sync(),
    "Q": m.query("select 1"),
    "F": m.function_call(177, []),
    "d": m.copy_data(b"1\n"),
    "c": m.copy_done(),
    "f": m.copy_fail("no"),
}


def script(requests: str, waits: bool = False) -> Script:
    """`x` is COPY data at which the COPY fails."""
    wait = Wait.REPLIES if waits else Wait.NO
    return Script(1, tuple(Step(REQUESTS[tag.replace("x", "d")], wait, fails=tag == "x") for tag in requests))


def account(requests: str, said: str) -> Account:
    account = Account(script(requests).steps)
    account.sent(len(requests) - 1)
    for reply in replies(said):
        account.feed(reply)
    return account


def expected(requests: str, said: str) -> Expectation:
    told = account(requests, said)
    due = {request: told.due(request) for request in range(len(requests))}
    return Expectation(told, [*map(Normaliser(), replies(said))], False, due)


@pytest.mark.parametrize(
    ("requests", "said", "owners"),
    [
        ("PBDES", "12TDCZ", [0, 1, 2, 3, 3, 4]),
        ("PBES", "1EZ", [0, 1, 3]),
        ("PBQES", "1EZ", [0, 1, 4]),
        ("QQ", "TDCZEZ", [0, 0, 0, 0, 1, 1]),
        ("FS", "VZZ", [0, 0, 1]),
        ("FS", "EZZ", [0, 0, 1]),
        ("dcfHS", "Z", [4]),
        ("Qddc", "GCZ", [0, 3, 3]),
        ("Qdxdc", "GEZ", [0, 2, 2]),
        ("QdfQ", "GEZCZ", [0, 2, 2, 3, 3]),
        ("PBESddcS", "12GCZ", [0, 1, 2, 6, 7]),
        ("PBESxcS", "12GEZ", [0, 1, 2, 4, 6]),
        ("Qdcdc", "GCGCZ", [0, 2, 2, 4, 4]),
        ("DCS", "tn3Z", [0, 0, 1, 2]),
        ("BES", "2sZ", [0, 1, 2]),
    ],
)
def test_each_reply_has_the_request_that_brought_it(requests: str, said: str, owners: list[int]) -> None:
    told = account(requests, said)
    assert told.owners == owners
    assert told.done(len(requests) - 1)


@pytest.mark.parametrize(("requests", "said"), [("P", "2"), ("B", "C"), ("S", "1"), ("P", "11"), ("H", "E")])
def test_what_cannot_be_explained_is_an_error(requests: str, said: str) -> None:
    with pytest.raises(Unexplained):
        account(requests, said)


def test_nothing_is_done_before_its_last_reply() -> None:
    told = Account(script("PBS").steps)
    told.sent(2)
    done = []
    for reply in replies("12Z"):
        told.feed(reply)
        done.append([told.done(request) for request in range(3)])
    assert done == [[False, False, False], [False, False, False], [True, True, True]]


def test_a_request_has_the_status_that_was_told_before_it() -> None:
    told = account("QPSQ", "CZT1ZTCZI")
    assert told.statuses == ["I", "T", "T", "T"]


@pytest.mark.parametrize(
    ("requests", "said", "due"),
    [
        ("PBDES", "12TDCZ", [0, 0, 0, 0, 6]),
        ("PBHDES", "12TDCZ", [0, 0, 2, 2, 2, 6]),
        ("PBES", "1EZ", [0, 2, 2, 3]),
        ("PBE", "1NE", [0, 3, 3]),
        ("PBESdcS", "12GCZ", [0, 0, 3, 3, 3, 3, 5]),
        ("PBESHdcS", "12GCZ", [0, 0, 3, 3, 3, 3, 3, 5]),
        ("Q", "TDCZ", [4]),
        ("PBHS", "E", [1, 1, 1, 1]),
    ],
)
def test_replies_are_due_when_something_sends_them(requests: str, said: str, due: list[int]) -> None:
    told = account(requests, said)
    assert [told.due(request) for request in range(len(requests))] == [Due(count, count) for count in due]


def test_postgresql_may_send_what_does_not_fit_into_its_buffer() -> None:
    told = Account(script("BES").steps)
    told.sent(2)
    for reply in (Message(b"2", b""), Message(b"D", b"x" * OUTPUT_BUFFER), *replies("CZ")):
        told.feed(reply)
    assert told.due(1) == Due(0, 3)


def heard(requests: str, wanted: str, came: str) -> Follower:
    follower = Follower(script(requests), expected(requests, wanted))
    for reply in replies(came):
        follower.hear(reply)
    return follower


def what(follower: Follower) -> str | None:
    return follower.difference.what if follower.difference else None


@pytest.mark.parametrize(
    ("came", "difference"),
    [("12CZ", None), ("12EZ", OTHER), ("21CZ", OTHER), ("12ZC", OTHER), ("12CZZ", MORE), ("12CCZ", OTHER)],
)
def test_replies_are_compared_one_by_one(came: str, difference: str | None) -> None:
    assert what(heard("PBES", "12CZ", came)) == difference


def test_another_content_is_another_reply() -> None:
    follower = heard("PBES", "12CZ", "12")
    follower.hear(Message(b"C", b"SELECT 2\0"))
    assert what(follower) == OTHER


@pytest.mark.parametrize(
    ("came", "difference"), [("", MISSING), ("1", MISSING), ("12", None), ("12C", EARLY)]
)
def test_at_a_wait_all_that_is_due_has_come_and_no_more(came: str, difference: str | None) -> None:
    follower = heard("PBHES", "12CZ", came)
    follower.check(follower.expected.due[2])
    assert what(follower) == difference


@pytest.mark.parametrize(("order", "difference"), [("ab", None), ("ba", None), ("aa", OTHER), ("ac", OTHER)])
def test_parameters_that_change_together_are_told_in_any_order(order: str, difference: str | None) -> None:
    wanted = expected("Q", "CSSZ")
    wanted.replies[1:3] = [status("a"), status("b")]
    follower = Follower(script("Q"), wanted)
    for reply in (*replies("C"), *map(status, order), *replies("Z")):
        follower.hear(reply)
    assert what(follower) == difference


def status(value: str) -> Message:
    return Message(b"S", b"name\0" + value.encode() + b"\0")


def test_the_first_difference_is_kept() -> None:
    follower = heard("PBES", "12CZ", "1EC")
    follower.check(Due(9, 9))
    assert follower.difference is not None
    assert (follower.difference.what, follower.difference.at) == (OTHER, 1)
    assert follower.difference.kind == f"{OTHER}: 2 wanted, E 22012 came"


def test_a_report_points_at_the_first_difference() -> None:
    difference = heard("PBES", "12CZ", "12EZ").difference
    assert difference is not None
    pointed = [line for line in report.lines(difference) if line.startswith(">")]
    assert [line.split("\t")[2] for line in pointed] == ["CommandComplete", "ErrorResponse"]


def failing(code: str) -> Message:
    return Message(b"E", b"SERROR\0VERROR\0C" + code.encode() + b"\0Mno\0\0")


def test_where_an_object_is_gone_a_describe_may_fail_without_its_parameters() -> None:
    gone = failing("42P01")
    wanted = expected("DS", "tEZ")
    wanted.replies[1] = Normaliser()(gone)
    follower = Follower(script("DS"), wanted)
    for reply in (gone, *replies("Z")):
        follower.hear(reply)
    assert (what(follower), follower.allowed, follower.count) == (None, [GONE], 3)


def test_where_an_object_is_gone_that_is_said_before_values_are_looked_at() -> None:
    follower = Follower(script("BS"), expected("BS", "EZ"))
    for reply in (failing("42P01"), *replies("Z")):
        follower.hear(reply)
    assert (what(follower), follower.allowed, follower.count) == (None, [GONE], 2)


def test_where_an_object_is_gone_a_statement_without_rows_cannot_be_described() -> None:
    follower = Follower(script("DS"), expected("DS", "tnZ"))
    follower.hear(failing("42P01"))
    assert (what(follower), follower.allowed, follower.abandoned) == (None, [GONE], True)


def test_other_errors_in_its_place_are_differences() -> None:
    follower = Follower(script("DS"), expected("DS", "tEZ"))
    follower.hear(failing("42P02"))
    assert what(follower) == OTHER


@pytest.mark.parametrize(
    ("requests", "allowed"),
    [("QDS", True), ("QuS", True), ("QBS", True), ("QCS", False), ("QPS", False)],
)
def test_in_a_failed_transaction_a_statement_may_be_unknown_to_its_server(
    requests: str, allowed: bool
) -> None:
    answer = {"D": "tn", "u": "tn", "B": "E", "C": "3", "P": "1"}[requests[1]]
    wanted = expected(requests, f"EZ{answer}Z")
    wanted.account.statuses[1:] = "EE"
    if answer == "E":
        wanted.replies[2] = Normaliser()(failing("08P01"))
    follower = Follower(script(requests), wanted)
    for reply in (*replies("EZ"), failing("25P02"), *replies("Z")):
        follower.hear(reply)
    assert (follower.abandoned, follower.allowed == [FAILED]) == (allowed, allowed)
    assert what(follower) == (None if allowed else OTHER)


def described(*tables: int) -> Message:
    columns = [b"c\0" + struct.pack("!IhIhih", table, 1, 23, 4, -1, 0) for table in tables]
    return Message(b"T", struct.pack("!H", len(tables)) + b"".join(columns))


def test_object_ids_of_users_are_numbered_as_they_come() -> None:
    one, other = Normaliser(), Normaliser()
    assert one(described(20001, 20002, 20001)) == other(described(31000, 30000, 31000))
    assert one(described(20002)) == other(described(30000))
    assert one(described(20002)) != other(described(31000))
    assert one(described(1259)) == described(1259)
    parameters = Message(b"t", struct.pack("!HII", 2, 23, 20001))
    assert one(parameters).body == struct.pack("!HII", 2, 23, FIRST_USER_OID)


def test_an_error_is_the_same_wherever_it_was_raised_and_in_whatever_order() -> None:
    ours = fields(b"SERROR\0C26000\0Mno\0VERROR\0\0")
    assert ours == fields(b"SERROR\0VERROR\0C26000\0Mno\0Fparse.c\0L12\0Rfetch\0\0")
    assert ours != fields(b"SERROR\0VERROR\0C26000\0Myes\0\0")
    assert ours != fields(b"SERROR\0VERROR\0C26000\0Mno\0P5\0\0")


def test_a_run_in_which_little_happened_proves_nothing() -> None:
    coverage = Coverage("transaction")
    for _ in range(10):
        coverage.count(script("PBHS", waits=True), expected("PBHS", "12Z"))
    missing = "\n".join(coverage.missing())
    assert ERRORS in missing
    assert COPIES in missing
    assert FLUSHES not in missing
    assert "no P in transaction status T" in missing
    assert "no P in transaction status I" not in missing


def test_a_flush_counts_only_where_it_brought_something() -> None:
    coverage = Coverage("transaction")
    coverage.count(script("PSHQ", waits=True), expected("PSHQ", "1ZCZ"))
    assert coverage.share(FLUSHES) == 0


def test_allowances_may_not_be_used_all_the_time() -> None:
    coverage = Coverage("transaction")
    for number in range(10):
        coverage.count(script("S"), expected("S", "Z"), [GONE] * (number == 0))
    assert any("allowances" in line for line in coverage.missing())
