"""The rules of auth_hba_file: who has to prove itself how, by where it comes from and where it wants to go.

PgBouncer's rules and PostgreSQL's. Nothing here asks anybody anything: where a rule depends on the roles of
the user or on the name of its host, and these are not known yet, `match` returns what has to be found out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from .pattern import LONGEST_NAME, Pattern, compile_pattern
from .rule_lines import Field, Token

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


class RuleType(StrEnum):
    """Which connections a rule is for: of the unix socket; of TCP, all, with TLS or without."""

    LOCAL = "local"
    HOST = "host"
    HOSTSSL = "hostssl"
    HOSTNOSSL = "hostnossl"


class Method(StrEnum):
    """How a client proves who it is, in the words of the file."""

    TRUST = "trust"
    REJECT = "reject"
    PASSWORD = "password"
    MD5 = "md5"
    SCRAM_SHA_256 = "scram-sha-256"
    PEER = "peer"
    CERT = "cert"


class ClientCert(StrEnum):
    """What a client's certificate must be besides: nothing, valid, valid and in the user's name."""

    NONE = "none"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class Ask(Enum):
    """What has to be found out before it is clear which rule applies."""

    ROLES = "the roles that the user is a member of"
    HOST = "the name of the client's host"


class AnyWhere(StrEnum):
    """Addresses that are not written as numbers."""

    ALL = "all"
    SAMEHOST = "samehost"
    SAMENET = "samenet"


@dataclass(frozen=True, slots=True)
class HostName:
    """A name as in the file; with a dot in front, all names that end in it."""

    pattern: str

    def fits(self, host: str) -> bool:
        wanted, name = self.pattern.lower(), host.lower()
        return name.endswith(wanted) if wanted.startswith(".") else name == wanted


@dataclass(frozen=True, slots=True)
class Network:
    """Addresses by prefix. `is_exact` is False where bits behind the mask were set: PostgreSQL leaves them
    out, PgBouncer never finds such an address; so here a rule with one can only refuse.
    """

    prefix: IPv4Network | IPv6Network
    mask: int
    is_exact: bool = True

    def has(self, address: Address) -> bool:
        base = self.prefix.network_address
        return address.version == base.version and int(address) & self.mask == int(base)


Place = AnyWhere | HostName | Network


@dataclass(frozen=True, slots=True)
class Names:
    """One list of databases or users."""

    words: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    groups: frozenset[str] = frozenset()
    keywords: frozenset[str] = frozenset()

    @property
    def needs_roles(self) -> bool:
        return bool(self.groups) or not self.keywords.isdisjoint(("samerole", "samegroup"))

    def has(self, name: str) -> bool:
        """Whether the name is meant whatever roles there are."""
        if "all" in self.keywords or name in self.words:
            return True
        return any(pattern.fits(name) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. `place` is None for the unix socket; `map` names the map of auth_ident_file that applies."""

    file: str
    line: int
    type: RuleType
    databases: Names
    users: Names
    place: Place | None
    method: Method
    map: str | None = None
    clientcert: ClientCert = ClientCert.NONE
    clientname: str = "CN"

    @property
    def needs_roles(self) -> bool:
        """Whether it depends on the roles of the user."""
        return self.databases.needs_roles or self.users.needs_roles


@dataclass(frozen=True, slots=True)
class Arrival:
    """A client that wants in. `address` is None on the unix socket; the console is the database `CONSOLE`.

    `roles`: those the user is a member of, itself among them; `host`: the confirmed name of where it comes
    from, empty if there is none. None: not asked yet.
    """

    database: str
    user: str
    address: Address | None
    tls: bool = False
    interfaces: Sequence[Interface] = field(default=(), repr=False)
    roles: frozenset[str] | None = None
    host: str | None = None


def match(rules: Iterable[Rule], arrival: Arrival) -> Rule | Ask | None:
    """Return the first rule for this client, or what it depends on; None when there is no rule for it."""
    for rule in rules:
        found = _fits(rule, arrival)
        if found is True:
            return rule
        if found is not False:
            return found
    return None


def _fits(rule: Rule, arrival: Arrival) -> bool | Ask:
    """Whether the rule is for this client; nothing is asked for a rule that cannot be."""
    if not _fits_type(rule.type, arrival):
        return False
    asked: Ask | None = None
    for test in (_is_at, _names_database, _names_user):
        answer = test(rule, arrival)
        if answer is False:
            return False
        if isinstance(answer, Ask):
            asked = asked or answer
    return asked or True


def _fits_type(kind: RuleType, arrival: Arrival) -> bool:
    if arrival.address is None or kind is RuleType.LOCAL:
        return arrival.address is None and kind is RuleType.LOCAL
    return kind is RuleType.HOST or (kind is RuleType.HOSTSSL) == arrival.tls


def _is_at(rule: Rule, arrival: Arrival) -> bool | Ask:
    place, address = rule.place, arrival.address
    if place is None or address is None or place is AnyWhere.ALL:
        return True
    if isinstance(place, HostName):
        return Ask.HOST if arrival.host is None else place.fits(arrival.host)
    forms = forms_of(address)
    if isinstance(place, Network):
        return (place.is_exact or rule.method is Method.REJECT) and any(map(place.has, forms))
    if place is AnyWhere.SAMEHOST:
        return any(form == interface.ip for interface in arrival.interfaces for form in forms)
    return any(form in interface.network for interface in arrival.interfaces for form in forms)


def forms_of(address: Address) -> tuple[Address, ...]:
    """The address, and the IPv4 address that came through a socket for both kinds."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (address,) if mapped is None else (mapped, address)


def _names_database(rule: Rule, arrival: Arrival) -> bool | Ask:
    names = rule.databases
    if names.has(arrival.database):
        return True
    if "sameuser" in names.keywords and arrival.database == arrival.user:
        return True
    if not names.needs_roles:
        return False
    return Ask.ROLES if arrival.roles is None else arrival.database in arrival.roles


def _names_user(rule: Rule, arrival: Arrival) -> bool | Ask:
    return names_user(rule.users, arrival.user, arrival.roles)


def names_user(names: Names, user: str, roles: frozenset[str] | None) -> bool | Ask:
    """Whether the list means the user, whose roles may have to be asked for."""
    if names.has(user):
        return True
    if not names.groups:
        return False
    return Ask.ROLES if roles is None else not names.groups.isdisjoint(roles)


def read_names(tokens: Field, keywords: Iterable[str]) -> Names:
    """Make a list of names from its tokens. Raises ValueError."""
    words: set[str] = set()
    patterns: list[Pattern] = []
    groups: set[str] = set()
    found: set[str] = set()
    known = frozenset(keywords)
    for token in tokens:
        if not token.quoted and token.text in known:
            found.add(token.text)
        elif not token.quoted and token.text.startswith("+"):
            groups.add(_nonempty(token.text[1:], "+ needs the name of a role"))
        elif token.text.startswith("/"):
            patterns.append(read_pattern(token))
        else:
            words.add(token.text)
    return Names(frozenset(words), tuple(patterns), frozenset(groups), frozenset(found))


def read_pattern(token: Token, longest: int = LONGEST_NAME) -> Pattern:
    """Compile the expression behind the slash, for names of up to so many characters. Raises ValueError."""
    try:
        return compile_pattern(token.text[1:], longest)
    except ValueError as error:
        raise ValueError(f'regular expression "{token.text[1:]}": {error}') from None


def _nonempty(text: str, message: str) -> str:
    if not text:
        raise ValueError(message)
    return text
