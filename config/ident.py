"""The maps of auth_ident_file: which users somebody may be whom the system or a certificate knows by a name.

PostgreSQL's lines (16 and later): `map  system-user  user`. Both names may be expressions (`/...`), the user
`all` or a member of a role (`+role`); `\\1` in it is what the expression of the first name caught.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .hba import Ask, Names, names_user, read_names, read_pattern
from .pattern import LONGEST_SYSTEM_NAME, Pattern
from .rule_lines import RuleFile, Token

KEY = "auth_ident_file"
_CAUGHT = r"\1"


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line. `template` is a user with `\\1` in it; where it is None, `users` says who is meant."""

    map: str
    system_user: str | Pattern
    users: Names
    template: str | None = None


def read_ident(path: str) -> tuple[tuple[Mapping, ...], RuleFile]:
    """Return the lines of the file, and it with what is wrong in it."""
    file = RuleFile(KEY).read(path)
    return _mappings(file), file


def parse_ident(data: bytes, where: str) -> tuple[tuple[Mapping, ...], RuleFile]:
    """The same for the content of a file called `where`."""
    file = RuleFile(KEY).parse(data, where)
    return _mappings(file), file


def may_be(
    mappings: Iterable[Mapping], name: str, system_user: str, user: str, roles: frozenset[str] | None
) -> bool | Ask:
    """Whether the map of this name lets the system user be the user, whose roles may have to be asked for."""
    unsure: bool | Ask = False
    for mapping in mappings:
        if mapping.map != name:
            continue
        answer = _lets(mapping, system_user, user, roles)
        if answer is True:
            return True
        unsure = answer or unsure
    return unsure


def _lets(mapping: Mapping, system_user: str, user: str, roles: frozenset[str] | None) -> bool | Ask:
    if isinstance(mapping.system_user, str):
        if mapping.system_user != system_user:
            return False
    else:
        if not mapping.system_user.fits(system_user):
            return False
        if mapping.template is not None:
            caught = mapping.system_user.caught(system_user)
            return caught is not None and mapping.template.replace(_CAUGHT, caught, 1) == user
    return names_user(mapping.users, user, roles)


def _mappings(file: RuleFile) -> tuple[Mapping, ...]:
    mappings: list[Mapping] = []
    for line in file.lines:
        try:
            if len(line.fields) != 3 or any(len(tokens) != 1 for tokens in line.fields):
                raise ValueError("expected three names: map, system user, user")
            name, system_user, user = (tokens[0] for tokens in line.fields)
            mappings.append(_mapping(name, system_user, user))
        except ValueError as error:
            file.problem(line, str(error))
    return tuple(mappings)


def _mapping(name: Token, system_user: Token, user: Token) -> Mapping:
    if not name.text or not system_user.text or not user.text:
        raise ValueError("a name is empty")
    users = read_names((user,), ("all",))
    if not system_user.text.startswith("/"):
        return Mapping(name.text, system_user.text, users)
    pattern = read_pattern(system_user, LONGEST_SYSTEM_NAME)
    template = user.text if users.words and _CAUGHT in user.text else None
    if template is not None and not pattern.groups:
        raise ValueError(rf'"{system_user.text}" has no parentheses for the \1 in "{user.text}"')
    if template is not None and not pattern.is_plain:
        raise ValueError(rf'"{system_user.text}": for \1 nothing like *? and no repeated parentheses')
    return Mapping(name.text, pattern, users, template)
