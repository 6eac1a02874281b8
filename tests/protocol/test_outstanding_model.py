"""The account of what a server owes, against a model of PostgreSQL, in any order of events."""

import contextlib
from collections import deque

from hypothesis import given, note, settings
from hypothesis import strategies as st

from protocol.outstanding import Outstanding
from tests.protocol.account import sent
from tests.protocol.model import GOOD, Backend, Request
from tests.protocol.test_outstanding_copy import BAD_ROW, BY_CLIENT, VIEW

UNANSWERED = frozenset("dHcf")
FIELDS = {"E": VIEW, "e": BAD_ROW, "f": BY_CLIENT}
"""What the errors of the model say."""


class Blurred(Exception):
    """A COPY failed of which data stood before a Sync: a session ends there."""


def _ends(tag: str) -> list[str]:
    return [name for name in GOOD if name[0] == tag]


COPY_BODY = st.lists(
    st.sampled_from([Request("d"), Request("d"), Request("d", "error"), Request("H")]), max_size=3
)
COPY_SYNCS = st.lists(st.just(Request("S", "ok")), max_size=2)
COPY_END = st.sampled_from([Request("c"), Request("c", "error"), Request("f")])
SYNC = st.sampled_from(["ok", "ok", "ok", "error"]).map(lambda ends: Request("S", ends))


@st.composite
def copy_data(draw: st.DrawFn, *, syncs: bool) -> list[Request]:
    """What a client sends for one COPY: Syncs before CopyDone mean nothing."""
    parts = [*draw(COPY_BODY), *(draw(COPY_SYNCS) if syncs else [])]
    return [*draw(st.permutations(parts)), draw(COPY_END)]


@st.composite
def extended(draw: st.DrawFn, *, syncs: bool) -> list[Request]:
    """Extended messages up to a Sync."""
    group: list[Request] = []
    for tag in draw(st.text("PBDECEH", max_size=6)):
        if tag == "H":
            group.append(Request("H"))
            continue
        ends = draw(
            st.sampled_from([*_ends(tag), *_ends(tag), "error", *(["copy", "broken copy"] * (tag == "E"))])
        )
        group.append(Request(tag, ends))
        if ends.endswith("copy"):
            group += draw(copy_data(syncs=syncs))
    return [*group, draw(SYNC)]


@st.composite
def simple(draw: st.DrawFn, *, syncs: bool) -> list[Request]:
    """One simple query, and the COPY data for it."""
    statements = draw(st.text("CTIHGGg!", min_size=1, max_size=3))
    group = [Request("Q", statements)]
    for statement in statements:
        if statement in "Gg":
            group += draw(copy_data(syncs=syncs))
    return group


FUNCTION = st.sampled_from(["ok", "error"]).map(lambda ends: [Request("F", ends)])
STRAY = st.sampled_from(["c", "f", "d"]).map(lambda tag: [Request(tag)])


def conversations(*, syncs: bool) -> st.SearchStrategy[list[Request]]:
    """What a client sends; with `syncs` also Syncs in the middle of COPY data."""
    groups = st.one_of(extended(syncs=syncs), simple(syncs=syncs), FUNCTION, STRAY)
    return st.lists(groups, max_size=5).map(lambda found: [request for group in found for request in group])


class Relay:
    """A session that keeps to the rules of the account, and the backend behind it."""

    def __init__(self, requests: list[Request]) -> None:
        self.unsent = deque(requests)
        self.unread: deque[Request] = deque()
        self.backend = Backend()
        self.account = Outstanding()
        self.client_got = ""

    def send(self) -> None:
        request = self.unsent.popleft()
        if request.tag in "dcf":
            if not self.account.may_copy():
                return
            sent(self.account, request.tag)
        elif request.tag == "H":
            if not self.account.can_flush():
                return
        elif not request.whose:
            self.account.push(ord(request.tag))
        elif self.account.discards():
            return
        else:
            self.account.note(ord(request.tag), request.whose)
        self.unread.append(request)

    def work(self) -> None:
        self.backend.take(self.unread.popleft())

    def receive(self) -> None:
        tag = self.backend.replies.popleft()
        if tag in FIELDS:
            self.account.copy_failed(FIELDS[tag])
            if self.account.copying and self.account.blurred:
                raise Blurred
            self.account.error()
            self.client_got += "E"
        elif self.account.reply(ord(tag)) != "skip":
            self.client_got += tag
        if tag == "Z" and not self.account.queue:
            self.check_release()

    def check_release(self) -> None:
        """A server is released here if the account is right that nothing is owed any more."""
        account = self.account
        if account.settled and not account.skipping and not account.copying:
            rest = self.backend.copy()
            for request in self.unread:
                assert request.tag in UNANSWERED
                rest.take(request)
            assert not rest.replies, f"released although {rest.replies} is still to come"

    def play(self, steps: st.DataObject | None) -> None:
        """Let everything happen in some order. None: each message is sent when all is quiet."""
        while self.unsent or self.unread or self.backend.replies:
            able = [
                step
                for step, there in (
                    (self.receive, self.backend.replies),
                    (self.work, self.unread),
                    (self.send, self.unsent),
                )
                if there
            ]
            step = able[0] if steps is None else steps.draw(st.sampled_from(able))
            step()
            note(f"{step.__name__}: {self.account!r} client got {self.client_got}")


@settings(max_examples=300, deadline=None)
@given(requests=conversations(syncs=False), steps=st.data())
def test_the_account_matches_what_postgresql_sends_and_ends_empty(
    requests: list[Request], steps: st.DataObject
) -> None:
    relay = Relay(requests)
    relay.play(steps)

    assert relay.account.settled
    assert not relay.account.queue
    assert not relay.account.copying
    assert relay.account.skipping == (relay.backend.mode == "skipping") is False


@settings(max_examples=300, deadline=None)
@given(requests=conversations(syncs=True), steps=st.data())
def test_with_syncs_inside_of_copy_it_matches_unless_their_own_data_is_bad(
    requests: list[Request], steps: st.DataObject
) -> None:
    relay = Relay(requests)
    with contextlib.suppress(Blurred):
        relay.play(steps)
        assert not relay.account.queue


@settings(max_examples=200, deadline=None)
@given(requests=conversations(syncs=True))
def test_a_client_that_waits_for_every_reply_is_always_accounted_for(requests: list[Request]) -> None:
    relay = Relay(requests)
    with contextlib.suppress(Blurred):
        relay.play(None)
        assert not relay.account.queue


@st.composite
def rewritten(draw: st.DrawFn) -> list[Request]:
    """Groups in which some requests are the pooler's own."""
    group: list[Request] = []
    for tag in draw(st.text("PBDECs", max_size=8)):
        if tag == "s":
            group.append(draw(st.sampled_from([Request("P", "P", "skip"), Request("C", "C", "skip")])))
        else:
            group.append(Request(tag, draw(st.sampled_from([*_ends(tag), "error"]))))
    return [*group, draw(SYNC)]


@settings(max_examples=200, deadline=None)
@given(groups=st.lists(rewritten(), max_size=4), steps=st.data())
def test_with_requests_of_ours_between_them_a_client_sees_what_postgresql_itself_would_have_sent(
    groups: list[list[Request]], steps: st.DataObject
) -> None:
    requests = [request for group in groups for request in group]
    relay = Relay(requests)
    relay.play(steps)

    direct = Backend()
    for request in requests:
        if request.whose != "skip":
            direct.take(request)
    assert relay.client_got == "".join(direct.replies)
    assert not relay.account.queue
