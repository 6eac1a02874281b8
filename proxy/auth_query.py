"""auth_query: the secrets of users whom the auth file does not name, asked of PostgreSQL.

Laws of this file:
- Who is asked, and as whom, the configuration says; of what a client sent only its name is passed on, as a
  bound value. The role that asks and the user who is asked about are never taken for one another.
- Logins of one name share one question, whoever leaves meanwhile; nothing is remembered longer than allowed.
- What went wrong is for the log; a client that has not proven who it is hears PgBouncer's few words.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from config.effective import AuthSource, auth_source
from protocol import sqlstate
from protocol.errors import ProtocolError
from protocol.login import ScramVerifier, Secret, parse_secret
from protocol.report import ErrorResponse
from protocol.scram import DEFAULT_ITERATIONS
from proxy.answers import Answers, Asked, Kinds, Known, Throttle
from proxy.credentials import NO_PASSWORD
from proxy.errors import (
    DatabaseDisabled,
    Killed,
    LoginRetry,
    PoolerError,
    ServerLost,
    ServerRefused,
    TimedOut,
    TooManyClients,
    UnknownDatabase,
)
from proxy.log import printable
from proxy.names import ADMIN_DATABASES, to_wire
from proxy.pool.manager import PoolManager
from proxy.pool.pool import Pool
from proxy.pool.units import SECOND
from proxy.question import OWN_PATH, SAFE_PATH, Question, Row, TooMuch

logger = logging.getLogger("howdah")

ATTEMPTS: Final = 3
"""How often a question is asked whose server goes away under it."""
FRESH_FOR: Final = SECOND
"""An answer this young is not asked for again because a login failed."""
MOST_ROWS: Final = 100_000
"""Of a question that is not about one user."""

# What PostgreSQL says where a name needs a schema that is not in search_path: of a function, a relation, a
# schema, a type or another object.
_NOT_FOUND: Final = frozenset(("42883", "42P01", "3F000", "42704"))
# What it says of a text that is none in its encoding. No role has such a name.
_NO_TEXT: Final = frozenset(("22021", "22P05"))
_LONGEST: Final = 2_000


class AuthQueryFailed(PoolerError):
    """The question cannot be asked as configured, or its answer makes no sense. The log says what."""

    sqlstate = sqlstate.CONFIG_FILE_ERROR

    def __init__(self) -> None:
        super().__init__("bouncer config error")


class AuthDatabaseMissing(AuthQueryFailed):
    """PostgreSQL has no such database."""


class AuthDatabaseDisabled(DatabaseDisabled):
    """DISABLE was said of the database that is asked."""

    def __init__(self, database: str) -> None:
        super().__init__(database)
        self.message = f'authentication database "{database}" is disabled'
        self.args = (self.message,)


@dataclass(slots=True)
class AuthCounts:
    """Since the start: questions sent, logins answered from what was known, questions that failed, names that
    turned out to be unknown, logins that had to wait or were refused because of too many such.
    """

    questions: int = 0
    hits: int = 0
    failures: int = 0
    unknown: int = 0
    throttled: int = 0


class _UnderWay:
    """A question that `waiting` callers wait for; `sent` from when breaking off would cost its connection."""

    def __init__(self) -> None:
        self.waiting = 0
        self.sent = False
        self.task: asyncio.Task[Any] | None = None


class AuthQuery:
    """Of one worker. Its connections are in pools of their own, one each."""

    def __init__(self, manager: PoolManager, clock: Callable[[], int]) -> None:
        self.counts = AuthCounts()
        self._manager = manager
        self._clock = clock
        self._answers = Answers()
        self._kinds = Kinds(DEFAULT_ITERATIONS)
        self._throttle = Throttle()
        self._under_way: dict[Hashable, _UnderWay] = {}
        self._needs_path: set[tuple[str, str, bytes]] = set()

    def apply(self) -> None:
        """The settings have changed: nothing is known any more, nor will be by what is being asked."""
        self._answers = Answers()
        self._under_way = {}
        self._needs_path.clear()

    @property
    def usual_iterations(self) -> int | None:
        """Of the SCRAM secrets of most users who were found; None if most have others."""
        return self._kinds.usual

    def source(self, database: str) -> AuthSource | None:
        """Who is asked about clients of a database; None where nobody is."""
        return auth_source(self._manager.settings, database)

    async def secrets(self, database: str, user: str, address: str = "") -> list[Secret] | None:
        """The secrets of a user; None for a name that is unknown, or where nobody can be asked.

        `address`: where the client is that came with the name. Raises PoolerError.
        """
        source = self.source(database)
        if source is None:
            return None
        asked = Asked(source, user)
        known = self._answers.get(asked, self._clock(), self._manager.settings.auth_query_cache)
        if known is not None:
            self.counts.hits += 1
            return known.secrets
        try:
            return await self._learn(asked, address)
        except AuthDatabaseMissing:
            if source.database == database:
                # It is the client's own word, and what PostgreSQL says of it to whoever is in.
                text = f'database "{database}" does not exist'
                raise PoolerError(text, sqlstate.INVALID_CATALOG_NAME) from None
            raise

    async def newer(self, database: str, user: str, address: str = "") -> list[Secret] | None:
        """The secrets of a user after a login by what was known of them has failed.

        None where that was no older than FRESH_FOR. What was unknown is asked about like all else: the
        time it takes must not tell. Raises PoolerError.
        """
        source = self.source(database)
        seconds = self._manager.settings.auth_query_cache
        if source is None or not seconds:
            return None
        asked = Asked(source, user)
        now = self._clock()
        known = self._answers.get(asked, now, seconds)
        if known is not None and now - known.at < FRESH_FOR:
            return None
        return await self._learn(asked, address)

    async def rows(self, database: str, sql: str, parameters: Sequence[str]) -> list[Row]:
        """The rows of another question to whom `auth_query` is asked of. Raises PoolerError."""
        source = self.source(database)
        if source is None:
            raise _failed(f'database "{printable(database)}" has no auth_user who could ask')
        values = tuple(to_wire(value) for value in parameters)
        key = (source, sql, values)
        found: list[Row] | None = await self._share(
            key, lambda under_way: self._ask(under_way, source, sql.encode(), values, MOST_ROWS)
        )
        return found or []

    async def _learn(self, asked: Asked, address: str) -> list[Secret] | None:
        """Ask, or wait for the answer to the same question; in turn, if the address asks too much."""
        rate = self._manager.settings.auth_query_unknown_rate
        free = asked in self._under_way or self._throttle.knows(address, asked.user)
        waited = not free and await self._wait_turn(address, rate)
        debtor = None if waited else address
        secrets: list[Secret] | None = await self._share(
            asked, lambda under_way: self._find(under_way, asked, debtor)
        )
        if secrets is not None and waited:
            self._throttle.refund(address, rate)
        return secrets

    async def _wait_turn(self, address: str, rate: int) -> bool:
        """Wait, if too many names that this address came with were unknown. Whether that was so."""
        wait = self._throttle.wait(address, rate, self._clock())
        if wait == 0:
            return False
        self.counts.throttled += 1
        if wait is None:
            raise TooManyClients("too many logins of unknown users (auth_query_unknown_rate)")
        await asyncio.sleep(wait / SECOND)
        return True

    def _charge(self, debtor: str | None) -> None:
        if debtor is not None:
            self._throttle.charge(debtor, self._manager.settings.auth_query_unknown_rate, self._clock())

    def logged_in(self, user: str, address: str) -> None:
        """A user who is asked about has come in: from this address that name does not wait again."""
        self._throttle.welcome(address, user)

    async def _share(self, key: Hashable, ask: Callable[[_UnderWay], Coroutine[Any, Any, Any]]) -> Any:
        """The answer to a question that is under way, or is asked now."""
        shared = self._under_way.get(key)
        if shared is None:
            begun = shared = self._under_way[key] = _UnderWay()
            shared.task = asyncio.get_running_loop().create_task(ask(shared))
            shared.task.add_done_callback(lambda task: self._ended(key, begun, task))
        assert shared.task is not None
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.sent:
                self._forget(key, shared)
                shared.task.cancel()

    def _forget(self, key: Hashable, shared: _UnderWay) -> None:
        """Nobody joins it any more. After a reload another question may be in its place."""
        if self._under_way.get(key) is shared:
            del self._under_way[key]

    def _ended(self, key: Hashable, shared: _UnderWay, task: "asyncio.Task[Any]") -> None:
        self._forget(key, shared)
        if not task.cancelled():
            task.exception()  # Whoever waited has been told; if nobody did it does not matter.

    async def _find(self, under_way: _UnderWay, asked: Asked, debtor: str | None) -> list[Secret] | None:
        """`debtor`: the address that pays where nothing is found, even if its client is gone by then."""
        source, user = asked
        answers = self._answers
        try:
            rows = await self._ask(under_way, source, source.query.encode(), (to_wire(user),), 2)
            secrets = None if rows is None else _judge(user, rows)
        except PoolerError:
            self.counts.failures += 1
            self._charge(debtor)
            raise
        if secrets is None:
            self.counts.unknown += 1
            self._charge(debtor)
        elif secrets != [NO_PASSWORD]:
            found = secrets[0]
            self._kinds.note(user, found.iterations if isinstance(found, ScramVerifier) else None)
        if self._manager.settings.auth_query_cache:
            answers.put(asked, Known(secrets, self._clock()))
        return secrets

    async def _ask(
        self, under_way: _UnderWay, source: AuthSource, sql: bytes, values: Sequence[bytes], most: int
    ) -> list[Row] | None:
        """Rows; None where a value can be no text in PostgreSQL. Raises PoolerError."""
        key = (source.database, source.user, sql)
        lost: PoolerError = ServerLost()

        def begun() -> None:
            under_way.sent = True
            self.counts.questions += 1

        safe = key not in self._needs_path
        for _ in range(ATTEMPTS):
            under_way.sent = False
            question = Question(self._pool(source), sql, values, most, begun)
            try:
                rows = await self._put(question, SAFE_PATH if safe else OWN_PATH)
            except (ServerLost, Killed) as error:
                lost = error
                if under_way.waiting:
                    continue
                break
            if question.error is None:
                if not safe and key not in self._needs_path:
                    self._needs_path.add(key)
                    text = "%sauth_query needs the search_path of %s"
                    logger.info(text, question.where, printable(source.user))
                return rows
            error_response = _decoded(question.where, question.error)
            if error_response.sqlstate in _NO_TEXT:
                return None
            if not (safe and error_response.sqlstate in _NOT_FOUND):
                raise _error(question.where, error_response)
            # It is remembered only if it helps: no name must be able to bring that about.
            safe = False
        raise lost

    async def _put(self, question: Question, path: str) -> list[Row]:
        try:
            return await question.put(self._clock(), path)
        except (ServerRefused, LoginRetry) as error:
            # The log has PostgreSQL's words, which are about the role that asks, and where it asks.
            missing = error.sqlstate == sqlstate.INVALID_CATALOG_NAME
            raise (AuthDatabaseMissing() if missing else AuthQueryFailed()) from None
        except (ProtocolError, TooMuch) as error:
            raise _failed(f"{question.where}auth_query failed: {error}") from None

    def _pool(self, source: AuthSource) -> Pool:
        """The pool that is asked. Raises PoolerError."""
        name = source.database
        if name in ADMIN_DATABASES:
            raise _failed(f'cannot use the reserved "{name}" database as an auth_dbname')
        now = self._clock()
        try:
            database = self._manager.database(name, now)
        except UnknownDatabase:
            raise _failed(f'authentication database "{printable(name)}" is not configured.') from None
        if database.disabled:
            raise AuthDatabaseDisabled(name)
        database.idle_since = now
        return self._manager.auth_pool(database, source.user)


def _judge(user: str, rows: Sequence[Row]) -> list[Secret] | None:
    """What the rows say of the user. Raises AuthQueryFailed where they are none of an auth_query."""
    if not rows:
        return None
    if len(rows) > 1:
        raise _failed("expected one row from auth_query, not more")
    if len(rows[0]) != 2:
        raise _failed(f"expected 2 columns from auth_query, not {len(rows[0])}")
    name, secret = rows[0]
    if name is None:
        raise _failed("auth_query response contained null user name")
    if name != to_wire(user):
        text = "auth_query was asked about user %s and answered about %s"
        logger.warning(text, printable(user), printable(name))
        return None
    try:
        return [parse_secret(secret) if secret else NO_PASSWORD]
    except ValueError as error:
        logger.warning("secret of user %s is of no use: %s", printable(user), error)
        return [NO_PASSWORD]


def _failed(text: str) -> AuthQueryFailed:
    """The log gets the reason, and the client none."""
    logger.warning("%s", text)
    return AuthQueryFailed()


def _decoded(where: str, error: bytes) -> ErrorResponse:
    """PostgreSQL's ErrorResponse. Raises AuthQueryFailed for what is none: the client is not to blame."""
    try:
        return ErrorResponse.decode(error[5:])
    except ProtocolError as broken:
        raise _failed(f"{where}auth_query failed: {broken}") from None


def _error(where: str, error: ErrorResponse) -> PoolerError:
    """PostgreSQL could not answer: all that it says goes to the log."""
    said = {"S": error.severity, "C": error.sqlstate, **{code: error.fields.get(code) for code in "MDHW"}}
    text = " | ".join(printable(part, _LONGEST) for part in said.values() if part)
    logger.warning("%sauth_query failed: %s", where, text)
    if error.sqlstate == sqlstate.QUERY_CANCELED:
        return TimedOut("auth_query_timeout")
    return AuthQueryFailed()
