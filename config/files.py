"""Find and read the files that the settings name."""

import os
from typing import TYPE_CHECKING

from .hba import ClientCert, Rule, RuleType
from .hba_parser import read_hba
from .ident import Mapping, read_ident
from .problems import Problem, Severity
from .rule_lines import RuleFile
from .types import SslMode
from .users import Credentials, parse_auth_file

if TYPE_CHECKING:
    from .settings import Settings


def find_beside(path: str, including: str | None) -> str:
    """Resolve a path named inside the file `including`.

    As PgBouncer does it is taken relative to the working directory; where nothing is there, relative to the
    file that names it.
    """
    if including is None or os.path.exists(path):
        return path
    beside = os.path.join(os.path.dirname(including), path)
    return beside if os.path.exists(beside) else path


def read_auth_file(settings: "Settings") -> tuple[Credentials, list[Problem]]:
    """Return the users and secrets of `settings.auth_file` (none when it is unset), and what is wrong in it.

    PgBouncer goes on without a file it cannot read; here that is a problem, because nobody could log in.
    """
    if settings.auth_file is None:
        return {}, []
    path = find_beside(settings.auth_file, settings.conffile)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        return {}, [Problem(path, 0, "auth_file", f"cannot be read: {error.strerror}")]
    return parse_auth_file(data, path)


def read_rule_files(settings: "Settings") -> tuple[tuple[Rule, ...], tuple[Mapping, ...], list[Problem]]:
    """Return the rules of `auth_hba_file`, the maps of `auth_ident_file` (none where unset), what is wrong.

    PgBouncer leaves out the lines it does not understand; here each is a problem, because nobody can say who
    comes in without it.
    """
    rules: tuple[Rule, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    problems: list[Problem] = []
    if settings.auth_ident_file is not None:
        mappings, maps = read_ident(find_beside(settings.auth_ident_file, settings.conffile))
        problems += maps.problems
    if settings.auth_hba_file:
        rules, file = read_hba(find_beside(settings.auth_hba_file, settings.conffile))
        _look_at_rules(settings, rules, {mapping.map for mapping in mappings}, file)
        problems += file.problems
    return rules, mappings, problems


def _look_at_rules(settings: "Settings", rules: tuple[Rule, ...], maps: set[str], file: RuleFile) -> None:
    """Note what the rules need from the settings and do not get."""
    someone_asks = settings.auth_user or any(entry.auth_user for entry in settings.databases.values())
    for rule in rules:
        place = Problem(rule.file, rule.line, file.key, "")
        if rule.needs_roles and not someone_asks:
            file.problem(place, "needs an auth_user who asks the server for roles", Severity.WARNING)
        if rule.map is not None and rule.map not in maps:
            file.problem(place, f'there is no map "{rule.map}" in auth_ident_file')
        if rule.type is RuleType.HOSTSSL and settings.client_tls_sslmode is SslMode.DISABLE:
            file.problem(place, "is for nobody while client_tls_sslmode is disable", Severity.WARNING)
        elif rule.clientcert is not ClientCert.NONE and not settings.client_tls_ca_file:
            message = "lets nobody in: without client_tls_ca_file no certificate can be verified"
            file.problem(place, message, Severity.WARNING)
