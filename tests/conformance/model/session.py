"""One client's session as PostgreSQL keeps it, as far as prepared statements are concerned.

Law: what PostgreSQL does comes first among the choices. Howdah's others are these: in a failed transaction
25P02, and of a text that is parsed again its error, may come before another finding; Describe may fail before
it has told the parameters; the unnamed statement is parsed again as the tables are by then; and `_stale` says
who is healed. Nobody who uses a name is shown other columns than those he was told of.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.conformance.model.catalogue import (
    STALE,
    Columns,
    Failure,
    Text,
    World,
    accepted,
    analysed,
    answered,
)
from tests.conformance.model.choices import Choices
from tests.conformance.model.messages import (
    Bind,
    Close,
    Describe,
    Execute,
    Extended,
    Flush,
    Parse,
    Query,
    Reply,
    error,
)

ABORTED = "25P02"


@dataclass
class Prepared:
    """A prepared statement. `columns` are what its rows looked like when it was parsed, or were last told.

    So many `changes` of its table its client knew of then. `told`: it has heard of one by an error. `unsure`:
    one that Howdah could not know of may have come between its text and its Parse.
    """

    text: Text
    types: tuple[int, ...]
    columns: Columns | None
    order: str
    changes: int = 0
    told: bool = False
    unsure: bool = False


@dataclass
class Portal:
    """A statement with its values. `rows` is how many of its rows have come, out of one.

    `empty`: the Bind has failed, as is seen only in a failed transaction; Howdah's may not have come so far.
    """

    prepared: Prepared
    columns: Columns | None
    values: tuple[str, ...] = ()
    rows: int = 0
    done: bool = False
    empty: bool = False


NOTHING = Prepared(Text("", ""), (), None, "")


@dataclass
class Group:
    """The messages up to a Sync. `alone`: nothing was sent together with them, and there is no Flush."""

    messages: Sequence[Extended]
    alone: bool
    replies: list[Reply] = field(default_factory=list)
    describing: bool = False

    @property
    def answered(self) -> bool:
        """Whether the client has heard something: Describe of a statement tells the parameters first."""
        return bool(self.replies) or self.describing

    @property
    def asks(self) -> bool:
        """Whether the client wants to be told some columns."""
        return any(isinstance(message, Describe) for message in self.messages)

    def others(self, name: str) -> bool:
        """Whether it calls other names than this, too."""
        return any(
            message.name not in ("", name)
            for message in self.messages
            if isinstance(message, Bind) or (isinstance(message, Describe) and message.kind == "S")
        )

    def asks_for(self, name: str) -> bool:
        """Whether it wants to be told those of this statement before any of its rows."""
        bound, asks = set[str](), False
        for message in self.messages:
            match message:
                case Bind():
                    bound.discard(message.portal)
                    if message.name == name:
                        bound.add(message.portal)
                case Describe(kind="S"):
                    if message.name == name:
                        return True
                case Describe() if message.name in bound:
                    bound.remove(message.name)
                    asks = True
                case Execute() if message.portal in bound:
                    return False
        return asks


@dataclass
class Session:
    """The state of one client."""

    order: str
    statements: dict[str, Prepared] = field(default_factory=dict)
    portals: dict[str, Portal] = field(default_factory=dict)
    status: str = "I"
    login_order: str = ""

    def __post_init__(self) -> None:
        self.login_order = self.login_order or self.order

    # --- a group of the extended protocol -----------------------------------------------------------

    def group(self, group: Group, world: World, choices: Choices) -> list[Reply]:
        """Replies to the messages and to the Sync behind them."""
        for message in group.messages:
            try:
                group.replies += self._one(message, group, world, choices)
            except Failure as failure:
                group.replies.append(error(failure))
                self._abort()
                break
        return [*group.replies, self.ready()]

    def ready(self) -> Reply:
        """The end of a group or of a query: out of a transaction its portals are gone."""
        if self.status == "I":
            self.portals.clear()
        return ("Z", self.status)

    def _abort(self) -> None:
        if self.status == "T":
            self.status = "E"

    def _one(self, message: Extended, group: Group, world: World, choices: Choices) -> list[Reply]:
        match message:
            case Parse():
                return self._parse(message, world, choices)
            case Bind():
                return self._bind(message, group, world, choices)
            case Describe(kind="S"):
                return self._describe(message, group, world, choices)
            case Describe():
                return self._describe_portal(message, choices)
            case Execute():
                return self._execute(message, choices)
            case Close():
                (self.statements if message.kind == "S" else self.portals).pop(message.name, None)
                return [("3",)]
            case Flush():
                return []

    def _parse(self, message: Parse, world: World, choices: Choices) -> list[Reply]:
        text = message.text
        if not message.name:
            self.statements.pop("", None)
        if self.status == "E" and (text.kind != "bad" or choices.among("found", "aborted") == "aborted"):
            raise Failure(ABORTED)
        types, columns = analysed(text, world)
        if message.name in self.statements:
            raise Failure("42P05", f'prepared statement "{message.name}" already exists')
        changes, unsure = world.changes.get(text.table, 0), text.table in world.elsewhere
        self.statements[message.name] = Prepared(text, types, columns, self.order, changes, unsure=unsure)
        return [("1",)]

    def _known(self, name: str, choices: Choices) -> Prepared:
        """The statement of this name. In a failed transaction Howdah may say so first."""
        if name not in self.statements:
            quoted = f'prepared statement "{name}"' if name else "unnamed prepared statement"
            raise Failure("26000", f"{quoted} does not exist")
        if self.status == "E" and choices.among("found", "aborted") == "aborted":
            raise Failure(ABORTED)
        return self.statements[name]

    def _bind(self, message: Bind, group: Group, world: World, choices: Choices) -> list[Reply]:
        prepared = self._known(message.name, choices)
        if prepared.text.table and choices.among("found", "parsed again") == "parsed again":
            self._revalidated(message.name, prepared, group, world, choices)
        wanted, given = len(prepared.types), len(message.values)
        if wanted != given:
            text = f'bind message supplies {given} parameters, but prepared statement "{message.name}"'
            raise Failure("08P01", f"{text} requires {wanted}")
        if self.status == "E":
            raise Failure(ABORTED)
        if message.portal and message.portal in self.portals:
            raise Failure("42P03", f'cursor "{message.portal}" already exists')
        self.portals[message.portal] = Portal(prepared, None, empty=True)
        accepted(prepared.types, message.values)
        columns = self._revalidated(message.name, prepared, group, world, choices)
        self.portals[message.portal] = Portal(prepared, columns, message.values)
        return [("2",)]

    def _describe(self, message: Describe, group: Group, world: World, choices: Choices) -> list[Reply]:
        prepared = self._known(message.name, choices)
        if self.status == "E" and prepared.columns is not None:
            raise Failure(ABORTED)
        told: Reply = ("t", prepared.types)
        if prepared.columns is None:
            return [told, ("n",)]
        group.describing = True
        try:
            columns = self._revalidated(message.name, prepared, group, world, choices)
        except Failure:
            # PostgreSQL has told the parameters by then.
            if choices.among("t", "") == "t":
                group.replies.append(told)
            raise
        group.describing = False
        return [told, ("T", columns)]

    def _revalidated(
        self, name: str, prepared: Prepared, group: Group, world: World, choices: Choices
    ) -> Columns | None:
        """The columns of the statement as the tables are now; Failure if they are not what they were."""
        _, columns = analysed(prepared.text, world)
        if columns is None or prepared.text.kind != "star":
            return columns
        changes = world.changes[prepared.text.table]
        if columns != prepared.columns:
            verdict = self._stale(name, prepared, group, world, choices)
            # Howdah does not know what it has shown of a change that took another way.
            prepared.unsure |= prepared.text.table in world.elsewhere
        elif prepared.told or prepared.unsure or changes != prepared.changes:
            # What has changed and changed back may be taken for changed, and who was told may be told again.
            verdict = choices.among("fresh", "error")
        else:
            verdict = "fresh"
        if verdict == "error":
            prepared.told, prepared.unsure, prepared.changes = True, False, changes
            world.elsewhere.discard(prepared.text.table)
            raise Failure("0A000", STALE)
        prepared.columns = columns
        if group.asks:
            prepared.changes = changes
        return columns

    def _stale(self, name: str, prepared: Prepared, group: Group, world: World, choices: Choices) -> str:
        """Whether the client is told that the columns have changed, or gets them as they are."""
        if name and group.asks_for(name) and group.alone and self.status == "I" and not group.answered:
            # Where another name has to be looked at first, the group is sent in two parts.
            return (
                choices.among("error", "fresh") if group.others(name) else choices.instead("error", "fresh")
            )
        elsewhere = prepared.text.table in world.elsewhere
        if not name or group.asks or prepared.told or prepared.unsure or elsewhere:
            return choices.among("error", "fresh")
        return "error"

    def _portal(self, name: str, choices: Choices) -> Portal:
        portal = self.portals.get(name)
        found = "missing" if portal is None else "there"
        if portal is not None and portal.empty:
            found = choices.among("there", "missing", "the one before")
        if portal is None or found == "missing":
            raise Failure("34000", f'portal "{name}" does not exist')
        if found == "the one before":
            raise Failure(ABORTED)
        return portal

    def _describe_portal(self, message: Describe, choices: Choices) -> list[Reply]:
        portal = self._portal(message.name, choices)
        if portal.columns is None:
            return [("n",)]
        if self.status == "E":
            raise Failure(ABORTED)
        return [("T", portal.columns)]

    def _execute(self, message: Execute, choices: Choices) -> list[Reply]:
        portal = self._portal(message.portal, choices)
        if portal.empty:
            return [("I",)]
        if self.status == "E":
            raise Failure(ABORTED)
        if portal.columns is None:
            if portal.done:
                raise Failure("55000", f'portal "{message.portal}" cannot be run')
            portal.done = True
            return [("C", "INSERT 0 1")]
        if portal.rows:
            return [("C", "SELECT 0")]
        prepared = portal.prepared
        row = answered(prepared.text, portal.values, portal.columns, prepared.order)
        portal.rows = 1
        return [("D", row), ("s",) if message.most == 1 else ("C", "SELECT 1")]

    # --- a simple query --------------------------------------------------------------------------------

    def query(self, query: Query) -> list[Reply]:
        """Replies to a simple query, which is the end of the unnamed statement."""
        self.statements.pop("", None)
        try:
            replies = self._run(query)
            self.portals.pop("", None)
        except Failure as failure:
            replies = [error(failure)]
            if failure.code != ABORTED:
                # What fails leaves its portal, the unnamed one, until the transaction ends.
                self.portals[""] = Portal(NOTHING, None)
            self._abort()
        return [*replies, self.ready()]

    def _run(self, query: Query) -> list[Reply]:
        kind = query.kind
        if self.status == "E" and kind not in ("commit", "rollback"):
            raise Failure(ABORTED)
        match kind:
            case "begin":
                self.status = "T"
            case "commit" | "rollback":
                kind = "rollback" if self.status == "E" else kind
                self.status = "I"
                self.portals.clear()
            case "select":
                assert query.columns is not None
                return [("T", query.columns), ("D", (query.subject,)), ("C", "SELECT 1")]
            case "deallocate":
                self._deallocate(query.subject)
            case "deallocate all" | "discard all":
                self.statements.clear()
                if kind == "discard all":
                    self.order = self.login_order
            case "set":
                self.order = query.subject
        return [("C", kind.upper())]

    def _deallocate(self, name: str) -> None:
        if name not in self.statements:
            raise Failure("26000", f'prepared statement "{name}" does not exist')
        del self.statements[name]
