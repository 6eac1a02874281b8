"""The hostile server itself: a fake PostgreSQL that knows, by the database asked for, whom to attack and how.

Law: an attack hits the first connection of its database or the replies to its
victim; all others are served well, so that whatever they miss was lost on the
way. A query of somebody else is answered with the one word it quotes.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.conformance.hostile.play import VICTIM, Play, Stage
from tests.support import messages as m
from tests.support.messages import Message
from tests.support.script import Conversation, FakeServer
from tests.support.sockets import reset

PATIENCE = 10.0
"""Seconds that are waited for what must come."""
SILENT_SECONDS = 2.4
"""More than the timeouts of the arena: where the pooler has no reason to give up, the host hangs up."""

Login = Callable[[Conversation], None]
Alter = Callable[[tuple[bytes, ...]], bytes]


def instead(said: bytes) -> Alter:
    """Says this, whatever was right."""
    return lambda good: said


class Aftermath(Enum):
    """What becomes of a connection on which something wrong was said."""

    GO_ON = "goes on as if nothing was"
    HANG_UP = "hangs up"
    RESET = "resets"
    SILENT = "says nothing more for a while"
    STAY = "says nothing more and never hangs up"


@dataclass
class Attack:
    """What one victim has to suffer. Everything has a default that does no harm.

    `alter` makes of a good reply what is said to request number `at` of the play. `stray` is said on the idle
    connection before the victim comes. `ends`: a good pooler gives up the connection for what was said, and
    serves its victim. `login` is the conversation behind the first startup packet, `repeated` the same on all
    connections. `codes`: SQLSTATEs with one of which the victim must end; empty where good or bad replies may
    come of it; `served` if it must be served. `stubborn`: the hostile reply is given to as many repetitions
    of the request as come.
    """

    name: str
    play: Play
    at: int = 0
    alter: Alter | None = None
    aftermath: Aftermath = Aftermath.GO_ON
    login: Login | None = None
    repeated: bool = False
    stray: bytes = b""
    ends: bool = False
    codes: frozenset[str] = frozenset()
    served: bool = False
    stubborn: bool = False
    said: list[bytes] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    strayed: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    insists: bytes = b""
    connections: int = 0

    def next_stage(self) -> Stage | None:
        """The request that the victim comes with next."""
        stages = self.play.stages
        return stages[len(self.said)] if len(self.said) < len(stages) else None


class Host:
    """Plays the attacks of the databases that its clients ask for; PATIENCE bounds its waits."""

    def __init__(self) -> None:
        self.attacks: dict[str, Attack] = {}
        self.server = FakeServer(self._script)

    def add(self, database: str, attack: Attack) -> None:
        self.attacks[database] = attack

    def _script(self, conversation: Conversation) -> None:
        attack = self.attacks[conversation.startup["database"]]
        attack.connections += 1
        first = attack.connections == 1
        try:
            if attack.login is not None and (first or attack.repeated):
                attack.login(conversation)
            else:
                conversation.welcome()
            _Service(conversation, attack, first).run()
        finally:
            if first:
                attack.ended.set()


class _Service:
    """One connection after its login."""

    def __init__(self, conversation: Conversation, attack: Attack, first: bool) -> None:
        self._conversation = conversation
        self._attack = attack
        self._stray = attack.stray if first else b""
        self._mine = False

    def run(self) -> None:
        while (got := self._conversation.read()).tag != b"X":
            if self._is_victims(got):
                if not self._answer_victim(got):
                    return
            elif got.tag in (b"Q", b"P"):
                self._answer_others(got)

    def _is_victims(self, got: Message) -> bool:
        stage = self._attack.next_stage()
        if stage is None:
            return False
        if got.tag in b"QP":
            return VICTIM.encode() in got.body
        return self._mine and (self._attack.play.by_name or got.tag == stage.request[:1])

    def _answer_victim(self, got: Message) -> bool:
        """False when the connection is to end."""
        attack = self._attack
        stage = attack.next_stage()
        assert stage is not None
        good = self._read_request(got, stage)
        hostile = attack.alter is not None and len(attack.said) == attack.at
        reply = attack.alter(good) if hostile and attack.alter is not None else b"".join(good)
        if hostile and attack.stubborn:
            attack.insists = reply
        else:
            attack.said.append(reply)
        attack.begun.set()
        attack.go.wait(PATIENCE)
        self._conversation.send(reply)
        self._mine = attack.next_stage() is not None
        return not hostile or self._go_on(attack.aftermath)

    def _read_request(self, first: Message, stage: Stage) -> tuple[bytes, ...]:
        """Reads the request to its end; the good reply to it."""
        play, got = self._attack.play, [first]
        if not play.by_name:
            for tag in stage.tags()[1:]:
                self._conversation.expect(tag)
            return stage.reply
        while got[-1].tag != b"S":
            got.append(self._conversation.read())
        return play.reply_to(got)

    def _go_on(self, aftermath: Aftermath) -> bool:
        conversation = self._conversation
        if aftermath is Aftermath.RESET:
            reset(conversation.socket)
        elif aftermath is Aftermath.SILENT:
            say_nothing(conversation)
        elif aftermath is Aftermath.STAY:
            threading.Event().wait(PATIENCE)
        return aftermath is Aftermath.GO_ON

    def _answer_others(self, got: Message) -> None:
        conversation = self._conversation
        if got.tag == b"P":
            for tag in b"BDES":
                conversation.expect(bytes((tag,)))
        word = re.search(rb"'(\w+)'", got.body)
        if got.tag == b"Q" and word is None:
            verb = got.body.split(b" ", 1)[0].strip(b"; \0").decode().upper()
            reply = m.command_complete(verb) if verb else m.message(b"I")
            conversation.send(reply, m.ready_for_query())
            return
        assert word is not None
        text = word[1].decode()
        row = m.row_description([text]) + m.data_row([text]) + m.command_complete("SELECT 1")
        before = m.message(b"1") + m.message(b"2") if got.tag == b"P" else b""
        conversation.send(before, row, m.ready_for_query())
        if self._stray:
            conversation.send(self._stray)
            self._stray = b""
            self._attack.strayed.set()


def say_nothing(conversation: Conversation) -> None:
    """Until the pooler hangs up, or for SILENT_SECONDS."""
    conversation.socket.settimeout(SILENT_SECONDS)
    while conversation.socket.recv(65536):
        pass
