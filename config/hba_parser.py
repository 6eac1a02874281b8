"""Lines of auth_hba_file -> rules. A line not understood to its last word is a mistake, never skipped.

What PostgreSQL has and this pooler has not is told apart from what is no rule at all.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address

from .databases import CONSOLE, RESERVED
from .hba import AnyWhere, ClientCert, HostName, Method, Network, Place, Rule, RuleType, read_names
from .problems import Severity, did_you_mean
from .rule_lines import Field, Line, RuleFile, Token

KEY = "auth_hba_file"
_DATABASE_WORDS = ("all", "sameuser", "samerole", "samegroup", "replication")
_ALIASES = {"plain": Method.PASSWORD}
_FOREIGN = ("gss", "sspi", "ident", "pam", "bsd", "ldap", "radius", "oauth", "krb5", "crypt", "any", "hba")
_HOST_NAME = re.compile(r"\.?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?", re.ASCII)
_NO_TLS = (RuleType.LOCAL, RuleType.HOSTNOSSL)


def read_hba(path: str) -> tuple[tuple[Rule, ...], RuleFile]:
    """Return the rules of the file, and it with what is wrong in it."""
    file = RuleFile(KEY).read(path)
    return _rules(file), file


def parse_hba(data: bytes, where: str) -> tuple[tuple[Rule, ...], RuleFile]:
    """The same for the content of a file called `where`."""
    file = RuleFile(KEY).parse(data, where)
    return _rules(file), file


def _rules(file: RuleFile) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for line in file.lines:
        try:
            rule = _Reader(line).read()
        except ValueError as error:
            file.problem(line, str(error))
            continue
        rules.append(rule)
        if isinstance(rule.place, Network) and not rule.place.is_exact:
            does = "refuses all of" if rule.method is Method.REJECT else "lets nobody in; meant is perhaps"
            message = f"the address has bits behind its mask, so the rule {does} {rule.place.prefix}"
            file.problem(line, message, Severity.WARNING)
    return tuple(rules)


class _Reader:
    """Takes a line apart, field by field; every method raises ValueError."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._at = 0

    def read(self) -> Rule:
        kind = self._type()
        databases = read_names(_console_as_one(self._next("databases")), _DATABASE_WORDS)
        users = self._next("users")
        for token in users:
            if token.is_keyword(*_DATABASE_WORDS[1:]):
                raise ValueError(f'"{token.text}" is for databases; in quotes it is the name of a user')
        names = read_names(users, ("all",))
        place = None if kind is RuleType.LOCAL else self._place()
        method = self._method(kind)
        options = self._options(kind, method)
        return Rule(
            self._line.file,
            self._line.number,
            kind,
            databases,
            names,
            place,
            method,
            options.get("map"),
            _clientcert(options, method),
            options.get("clientname", "CN"),
        )

    def _next(self, what: str) -> Field:
        if self._at >= len(self._line.fields):
            raise ValueError(f"ends before the {what}")
        self._at += 1
        return self._line.fields[self._at - 1]

    def _one(self, what: str) -> Token:
        tokens = self._next(what)
        if len(tokens) != 1:
            raise ValueError(f"expected one {what}, found {len(tokens)}")
        return tokens[0]

    def _type(self) -> RuleType:
        word = self._one("type").text
        if word == "hostgssenc":
            raise ValueError("hostgssenc: GSSAPI encryption is not supported")
        if word == "hostnogssenc":
            return RuleType.HOST
        if word not in set(RuleType):
            raise ValueError(f'unknown type of connection "{word}"{did_you_mean(word, list(RuleType))}')
        return RuleType(word)

    def _place(self) -> Place:
        token = self._one("address")
        if token.is_keyword(*AnyWhere):
            return AnyWhere(token.text)
        text, slash, bits = token.text.partition("/")
        try:
            address = ip_address(text)
        except ValueError:
            return _host_name(token.text, bool(slash))
        if "%" in text:
            raise ValueError(f'address "{text}": zones are not supported')
        if slash:
            mask = _mask_of_bits(bits, address.max_prefixlen)
        else:
            mask = _mask_of_address(self._one("mask, or /bits behind the address").text, address.version)
        base = int(address) & mask
        prefix: IPv4Network | IPv6Network
        length = mask.bit_count()
        prefix = IPv4Network((base, length)) if address.version == 4 else IPv6Network((base, length))
        return Network(prefix, mask, base == int(address))

    def _method(self, kind: RuleType) -> Method:
        word = self._one("method").text
        if word == "ident" and kind is RuleType.LOCAL:
            return Method.PEER
        if word in _FOREIGN:
            raise ValueError(f'the method "{word}" is not supported')
        if word not in set(Method) and word not in _ALIASES:
            raise ValueError(f'unknown method "{word}"{did_you_mean(word, [*Method, *_ALIASES])}')
        method = _ALIASES.get(word) or Method(word)
        if method is Method.PEER and kind is not RuleType.LOCAL:
            raise ValueError("peer is only for the unix socket (local)")
        if method is Method.CERT and kind in _NO_TLS:
            raise ValueError("cert needs TLS (hostssl)")
        return method

    def _options(self, kind: RuleType, method: Method) -> dict[str, str]:
        options: dict[str, str] = {}
        while self._at < len(self._line.fields):
            for token in self._next("options"):
                name, equals, value = token.text.partition("=")
                if not equals or not value:
                    raise ValueError(f'expected name=value, found "{token.text}"')
                if name in options:
                    raise ValueError(f'the option "{name}" stands here twice')
                _check_option(name, value, kind, method)
                options[name] = value
        if "map" in options and not (method in (Method.PEER, Method.CERT) or _is_full(options)):
            raise ValueError("map= is for peer, cert and clientcert=verify-full")
        if "clientname" in options and not (method is Method.CERT or _is_full(options)):
            raise ValueError("clientname= is for cert and clientcert=verify-full")
        return options


def _console_as_one(tokens: Field) -> Field:
    """The console has two names, which no two rules may tell apart."""
    return tuple(Token(CONSOLE, token.quoted) if token.text in RESERVED else token for token in tokens)


def _host_name(text: str, has_slash: bool) -> HostName:
    if _HOST_NAME.fullmatch(text) and re.search(r"[A-Za-z]", text):
        return HostName(text)
    named = text.partition("/")[0]
    if has_slash and _HOST_NAME.fullmatch(named) and re.search(r"[A-Za-z]", named):
        raise ValueError(f'"{text}": the name of a host has no mask')
    raise ValueError(f'"{text}" is neither an address nor the name of a host')


def _mask_of_bits(bits: str, most: int) -> int:
    if not (bits.isascii() and bits.isdecimal() and len(bits) <= 3 and int(bits) <= most):
        raise ValueError(f'"/{bits}" is no length of a mask: 0 to {most}')
    return (1 << most) - (1 << (most - int(bits)))


def _mask_of_address(text: str, version: int) -> int:
    try:
        mask = ip_address(text)
    except ValueError:
        raise ValueError(f'expected a mask behind the address, found "{text}"') from None
    if mask.version != version or "%" in text:
        raise ValueError("the address and its mask are of different kinds")
    ones = int(mask)
    hosts = ones ^ ((1 << mask.max_prefixlen) - 1)
    if hosts & (hosts + 1):
        raise ValueError(f'the mask "{text}" has holes')
    return ones


def _check_option(name: str, value: str, kind: RuleType, method: Method) -> None:
    if name not in ("map", "clientcert", "clientname"):
        raise ValueError(f'unknown option "{name}"{did_you_mean(name, ("map", "clientcert", "clientname"))}')
    if name == "map":
        return
    if kind is not RuleType.HOSTSSL:
        raise ValueError(f"{name}= is for hostssl")
    if name == "clientname" and value not in ("CN", "DN"):
        raise ValueError(f'clientname= is CN or DN, not "{value}"')
    if name == "clientcert" and value not in (ClientCert.VERIFY_CA, ClientCert.VERIFY_FULL):
        raise ValueError(f'clientcert= is verify-ca or verify-full, not "{value}"')
    if name == "clientcert" and method is Method.CERT and value != ClientCert.VERIFY_FULL:
        raise ValueError("with cert, clientcert= can only be verify-full")


def _is_full(options: dict[str, str]) -> bool:
    return options.get("clientcert") == ClientCert.VERIFY_FULL


def _clientcert(options: dict[str, str], method: Method) -> ClientCert:
    return ClientCert.VERIFY_FULL if method is Method.CERT else ClientCert(options.get("clientcert", "none"))
