"""One attack: a victim, two neighbours in the same pool of one server, a newcomer behind them.

Law: neighbours wait for the very server that misbehaves. Each of them gets
whole replies that quote its own word, or one clean error; the newcomer, who
asks when all is over, is served, or the pool has lost its only slot.
"""

import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.conformance.hostile.host import PATIENCE, Attack, Host
from tests.conformance.hostile.play import VICTIM, Stage, told
from tests.conformance.hostile.verdict import Verdict, allowed, judge, last_error, mostly
from tests.support import messages as m
from tests.support.messages import Message
from tests.support.pooler import Pooler, Sections, Settings
from tests.support.wire import Raw

NEIGHBOUR, FORCED = "neighbour", "forced"
QUERY_SECONDS = 1.2
"""query_timeout of victims alone; nobody else's queries are limited."""

SETTINGS: Settings = {
    "server_connect_timeout": 1,
    "server_login_retry": 0.2,
    "client_login_timeout": 8,
    "query_wait_timeout": 8,
    "query_wait_notify": 0,
    "cancel_wait_timeout": 1,
    "server_close_timeout": 1,
    "server_idle_timeout": 2 * PATIENCE,
    "autodb_idle_timeout": 2,
    "log_connections": 0,
    "log_disconnections": 0,
}
USERS: Sections = {VICTIM: {"query_timeout": QUERY_SECONDS}}
SECRETS = {VICTIM: "", NEIGHBOUR: "", FORCED: ""}


def entry(host: Host, password: str) -> Settings:
    """The `*` entry: every attack gets a database, and with it a pool, of its own."""
    server = host.server
    return {"host": server.host, "port": server.port, "user": FORCED, "password": password, "pool_size": 1}


@dataclass
class Result:
    """What became of one attack. `answered` and `refused` count what its neighbours and newcomer got."""

    name: str
    verdict: Verdict
    answered: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)


def enter(raw: Raw, user: str, database: str) -> None:
    """Sends a startup packet."""
    raw.send(m.startup({"user": user, "database": database}))


def welcomed(raw: Raw) -> Message:
    """The message that ends a login, good or bad; a hostile greeting may be anything on the way there."""
    return raw.until(b"Z", b"E")[-1]


class Neighbour:
    """A client that asks for words it made up, and takes no other."""

    def __init__(self, raw: Raw, result: Result) -> None:
        self.raw = raw
        self._result = result
        self._asked: list[tuple[str, str]] = []
        self.gone = False

    def ask(self, *, extended: bool) -> None:
        """Sends a query and does not wait for the reply."""
        word = f"n_{secrets.token_hex(8)}"
        if extended:
            self.raw.send_quietly(m.one_shot(f"select '{word}'"))
        else:
            self.raw.send_quietly(m.query(f"select '{word}'"))
        self._asked.append((word, "12TDCZ" if extended else "TDCZ"))

    def settle(self) -> None:
        """Reads the replies to all it has asked; says what is wrong with them."""
        asked, self._asked = self._asked, []
        got: list[Message] = []
        for word, tags in asked:
            try:
                got = []
                while not got or got[-1].tag != b"Z":
                    got.append(self.raw.message())
            except (EOFError, ConnectionError):
                self.gone = True
            except (TimeoutError, AssertionError) as error:
                self._problem(f"waits for ever: {error}")
                return
            self._judge(word, tags, got)
            if self.gone:
                return

    def _judge(self, word: str, tags: str, got: list[Message]) -> None:
        said = [each for each in got if each.tag not in b"NS"]
        if self.gone:
            self._result.refused += 1
            if m.tags(said) != "E" or not _is_clean(said[0]):
                self._problem(f"asked for {word} and was left with {got}")
        elif m.tags(said) == tags and [each.body for each in said if each.tag in b"TD"] == _quoted(word):
            self._result.answered += 1
        else:
            self._problem(f"asked for {word} and got {got}")

    def _problem(self, text: str) -> None:
        self._result.problems.append(f"a neighbour {text}")
        self.gone = True


class Arena:
    """One pooler before one hostile host."""

    def __init__(self, pooler: Pooler, host: Host) -> None:
        self.pooler = pooler
        self.host = host

    def run(self, attack: Attack) -> Result:
        """Lets the attack happen, and judges everybody."""
        database = f"h_{secrets.token_hex(6)}"
        self.host.add(database, attack)
        result = Result(attack.name, Verdict("not asked"))
        with ExitStack() as stack:
            if attack.login is None:
                self._attack_query(attack, database, result, stack)
            else:
                self._attack_login(attack, database, result, stack)
        if not attack.repeated:
            self._newcomer(database, result)
        _compare(attack, result)
        return result

    # Attacks on a query.

    def _attack_query(self, attack: Attack, database: str, result: Result, stack: ExitStack) -> None:
        neighbours = [Neighbour(self._client(stack, NEIGHBOUR, database), result) for _ in range(2)]
        for number, neighbour in enumerate(neighbours):
            neighbour.ask(extended=False)
            neighbour.settle()
            if attack.stray and number == 0:
                _wait_for_stray(attack, result)
        with self._client(stack, VICTIM, database) as raw:
            victim = Victim(raw, attack)
            victim.send(attack.play.stages[0])
            if not attack.begun.wait(PATIENCE / 2):
                result.problems.append("the victim's request never reached its server")
            for extended, neighbour in zip((False, True), neighbours, strict=True):
                neighbour.ask(extended=extended)
            attack.go.set()
            result.verdict = victim.listen()
        for neighbour in neighbours:
            neighbour.ask(extended=False)
            neighbour.settle()
        _wait_for_end(attack, result)

    def _client(self, stack: ExitStack, user: str, database: str) -> Raw:
        raw = stack.enter_context(self.pooler.socket())
        enter(raw, user, database)
        assert welcomed(raw).tag == b"Z", "a good login is refused"
        return raw

    # Attacks on a login.

    def _attack_login(self, attack: Attack, database: str, result: Result, stack: ExitStack) -> None:
        attack.go.set()
        users = (VICTIM, NEIGHBOUR, NEIGHBOUR)
        clients = [stack.enter_context(self.pooler.socket()) for _ in users]
        for user, raw in zip(users, clients, strict=True):
            enter(raw, user, database)
        result.verdict = self._logged_in(clients[0], result, VICTIM)
        if result.verdict.outcome == "served":
            victim = Victim(clients[0], attack)
            victim.send(attack.play.stages[0])
            result.verdict = victim.listen()
        clients[0].close()
        for raw in clients[1:]:
            if self._logged_in(raw, result, "a neighbour").outcome == "served":
                neighbour = Neighbour(raw, result)
                neighbour.ask(extended=False)
                neighbour.settle()

    @staticmethod
    def _logged_in(raw: Raw, result: Result, who: str) -> Verdict:
        """Reads what a login is answered with."""
        try:
            last = welcomed(raw)
            if last.tag == b"Z":
                return Verdict("served")
            more = raw.until_closed()
        except (EOFError, ConnectionError, TimeoutError, AssertionError) as error:
            result.problems.append(f"the login of {who}: {error!r}")
            return Verdict("closed")
        if more:
            result.problems.append(f"{who} heard more after its refusal: {more}")
        result.refused += who != VICTIM
        return Verdict("error", told(last.body).get("C", ""))

    # Afterwards.

    def _newcomer(self, database: str, result: Result) -> None:
        """A client that comes when all is over; a refused login of the pool's is cached for a moment."""
        deadline = time.monotonic() + PATIENCE
        while True:
            raw = self.pooler.socket()
            enter(raw, NEIGHBOUR, database)
            last = welcomed(raw)
            if last.tag == b"Z":
                break
            raw.close()
            if time.monotonic() > deadline:
                result.problems.append(f"a newcomer is refused: {last}")
                return
            time.sleep(0.05)
        with raw:
            newcomer = Neighbour(raw, result)
            for extended in (False, True):
                newcomer.ask(extended=extended)
                newcomer.settle()
            if newcomer.gone:
                result.problems.append("a newcomer is not served")


class Victim:
    """Plays its part and keeps every byte it hears."""

    def __init__(self, raw: Raw, attack: Attack) -> None:
        self._raw = raw
        self._attack = attack
        self._heard = bytearray()
        self._closed = False

    def send(self, stage: Stage) -> None:
        self._raw.send_quietly(stage.request)

    def listen(self) -> Verdict:
        """Hears the reply to what was sent, goes on with the play, until it ends or cannot go on."""
        stages = self._attack.play.stages
        complete = False
        for number, stage in enumerate(stages):
            if number:
                self.send(stage)
            last = self._until(b"Z" + stage.last + (b"E" if stage.flushed else b""))
            complete = last == b"Z"
            if not last or (complete and stage.last != b"Z"):
                break
        self._take_what_is_there(complete)
        attack = self._attack
        insisted = [attack.insists] * len(stages)
        mine = b"".join(allowed(reply) for reply in attack.said + insisted)
        fits = mostly if attack.play.by_name else bytes.startswith
        return judge(bytes(self._heard), mine, closed=self._closed, complete=complete, fits=fits)

    def _until(self, stop: bytes) -> bytes:
        """Hears messages up to one with such a tag, which it returns; nothing when none comes."""
        deadline = time.monotonic() + PATIENCE / 2
        while not self._closed:
            start = len(self._heard)
            if not self._take(5, deadline):
                break
            length = int.from_bytes(self._heard[start + 1 : start + 5], "big")
            if not self._take(max(length - 4, 0), deadline):
                break
            if self._heard[start : start + 1] in stop:
                return bytes(self._heard[start : start + 1])
        return b""

    def _take(self, count: int, deadline: float) -> bool:
        """Byte by byte, so that nothing is lost when the connection ends in the middle."""
        try:
            for _ in range(count):
                self._heard += self._raw.take(1, deadline)
        except (EOFError, ConnectionError):
            self._closed = True
            return False
        except TimeoutError:
            return False
        return True

    def _take_what_is_there(self, complete: bool) -> None:
        """Behind an error the end of the connection is waited for, behind a whole reply nothing is."""
        while not self._closed and not self._raw.silent_for(0):
            self._take(1, time.monotonic() + 1)
        if not complete or last_error(bytes(self._heard)) is not None:
            while not self._closed and self._take(1, time.monotonic() + 1):
                pass


def _wait_for_stray(attack: Attack, result: Result) -> None:
    """The stray bytes must have had their effect before anybody may be confused by them."""
    attack.strayed.wait(PATIENCE / 2)
    _wait_for_end(attack, result)


def _wait_for_end(attack: Attack, result: Result) -> None:
    if attack.ends and not attack.ended.wait(PATIENCE / 2):
        result.problems.append("a server that said what nobody asked for is kept")


def _compare(attack: Attack, result: Result) -> None:
    verdict = result.verdict
    if verdict.problem:
        result.problems.append(f"the victim {verdict.problem}")
    if attack.codes and verdict.code not in attack.codes:
        result.problems.append(f"the victim ended with {verdict}, not with {set(attack.codes)}")
    if attack.served and verdict.outcome != "served":
        result.problems.append(f"the victim was not served: {verdict}")


def _is_clean(error: Message) -> bool:
    """Whether an error says that it ends the connection, and why."""
    fields = told(error.body)
    return fields.get("S") == "FATAL" and len(fields.get("C", "")) == 5 and bool(fields.get("M"))


def _quoted(word: str) -> list[bytes]:
    """Bodies of a RowDescription and a DataRow that carry this word."""
    return [m.row_description([word])[5:], m.data_row([word])[5:]]
