"""What is suspicious about settings that are valid one by one.

Each rule is a small generator of (path of the key, severity, message); `hints` runs them all. An error here
means that the daemon could not do its work at all; a warning, that it will, but hardly as intended.
"""

import os
import stat
from collections.abc import Iterator, Mapping

from .databases import FALLBACK, RESERVED, DatabaseSettings
from .effective import pool_size
from .files import find_beside
from .problems import Problem, Severity, find_place
from .settings import Settings
from .tls import SYSTEM, contradictions, server_tls
from .types import AuthType, SslMode
from .users import UserSettings

Path = tuple[str, ...]
Hint = tuple[Path, Severity, str]
_NOBODY = UserSettings()
_GLOBAL = {
    "sslnegotiation": "server_tls_sslnegotiation",
    "sslrootcert": "server_tls_ca_file",
    "sslkey": "server_tls_key_file",
}
_ENTRY = {"sslmode", "sslnegotiation", "sslrootcert", "sslkey"} | {
    f"ssl_{which}_protocol_version" for which in ("min", "max")
}


def hints(settings: Settings, places: Mapping[Path, Problem], file: str | None) -> list[Problem]:
    """Return what the settings as a whole deserve to be told, each at the line of the key to blame."""
    found: list[Problem] = []
    for rule in (_listening, _rules, _logins, _secrets, _auth_query, _pools, _databases, _server_encryption):
        for path, severity, message in rule(settings):
            place = find_place(path, places) or Problem(file or "settings", 0, path[-1], "")
            key = place.key if path in places else path[-1]
            found.append(Problem(place.file, place.line, key, message, severity))
    return found


def _listening(settings: Settings) -> Iterator[Hint]:
    directory = settings.unix_socket_dir
    if not settings.listen_addr and not directory:
        yield (
            ("listen_addr",),
            Severity.ERROR,
            "nowhere to listen: there is no address and no unix_socket_dir",
        )
    if settings.listen_port == 0:
        yield ("listen_port",), Severity.WARNING, "0 takes any free port"
    if directory and not directory.startswith("@") and not os.path.isdir(directory):
        yield ("unix_socket_dir",), Severity.WARNING, f"there is no directory {directory}"
    same_port = settings.metrics_port == settings.listen_port != 0
    if same_port and settings.metrics_addr and {settings.metrics_addr, "*"} & set(settings.listen_addr):
        yield ("metrics_port",), Severity.ERROR, "is the port that clients connect to"


def _rules(settings: Settings) -> Iterator[Hint]:
    if settings.auth_type is AuthType.HBA and not settings.auth_hba_file:
        message = "without auth_hba_file nobody can log in with auth_type hba"
        yield ("auth_type",), Severity.WARNING, message
    if settings.auth_type is not AuthType.HBA and settings.auth_hba_file:
        message = f"has no effect while auth_type is {settings.auth_type}"
        yield ("auth_hba_file",), Severity.WARNING, message
    for key in ("auth_hba_file", "auth_ident_file"):
        path = getattr(settings, key)
        if path and _mode(find_beside(path, settings.conffile)) & stat.S_IWOTH:
            yield (key,), Severity.WARNING, "every user of this machine can change it"
    if settings.auth_type is AuthType.CERT and not settings.client_tls_ca_file:
        message = "without client_tls_ca_file nobody can log in with auth_type cert"
        yield ("auth_type",), Severity.WARNING, message
    elif settings.auth_type is AuthType.CERT and settings.client_tls_sslmode is SslMode.DISABLE:
        message = "with client_tls_sslmode disable nobody can log in with auth_type cert"
        yield ("auth_type",), Severity.WARNING, message


def _logins(settings: Settings) -> Iterator[Hint]:
    if settings.auth_type is AuthType.ANY:
        for name, entry in settings.databases.items():
            if entry.user is None:
                message = "with auth_type any nobody can use a database that has no user of its own"
                yield ("databases", name), Severity.WARNING, message
    elif settings.auth_file is None and not _askers(settings):
        message = f"without auth_file nobody can log in with auth_type {settings.auth_type}"
        yield ("auth_type",), Severity.WARNING, message
    elif settings.credentials and settings.auth_user is None:
        for key in ("admin_users", "stats_users"):
            for user in getattr(settings, key):
                if user not in settings.credentials:
                    yield (key,), Severity.WARNING, f'"{user}" is not in auth_file and cannot log in'


def _secrets(settings: Settings) -> Iterator[Hint]:
    if settings.auth_file is not None:
        path = find_beside(settings.auth_file, settings.conffile)
        if _mode(path) & stat.S_IROTH:
            yield ("auth_file",), Severity.WARNING, "every user of this machine can read the secrets in it"
    if settings.auth_type is AuthType.SCRAM_SHA_256:
        for user, secrets in settings.credentials.items():
            if secrets and all(secret.reveal().startswith(b"md5") for secret in secrets):
                message = f'"{user}" has only an md5 secret, which is of no use with scram-sha-256'
                yield ("auth_file",), Severity.WARNING, message


def _askers(settings: Settings) -> dict[Path, str]:
    """Return who asks auth_query, by where the configuration says so."""
    found: dict[Path, str | None] = {("auth_user",): settings.auth_user}
    for name, entry in settings.databases.items():
        found["databases", name, "auth_user"] = entry.auth_user
    return {path: user for path, user in found.items() if user is not None}


def _auth_query(settings: Settings) -> Iterator[Hint]:
    askers = _askers(settings)
    for path, user in askers.items():
        if user not in settings.credentials:
            message = f'"{user}" is not in auth_file: servers must let it in without a password'
            yield path, Severity.WARNING, message
    if not askers:
        for key in settings.model_fields_set & {"auth_query", "auth_dbname"}:
            yield (key,), Severity.WARNING, "has no effect without auth_user"
    yield from _question((), settings.auth_query, settings.auth_dbname, settings)
    for name, entry in settings.databases.items():
        yield from _question(("databases", name), entry.auth_query, entry.auth_dbname, settings)
    fallback = settings.databases.get(FALLBACK)
    where = fallback and (fallback.auth_dbname or settings.auth_dbname)
    if fallback and not where and (fallback.auth_user or settings.auth_user):
        message = "auth_query runs in whichever database a client names; auth_dbname would name one"
        yield ("databases", FALLBACK), Severity.WARNING, message


def _question(path: Path, query: str | None, database: str | None, settings: Settings) -> Iterator[Hint]:
    if query is not None and "$1" not in query:
        yield (*path, "auth_query"), Severity.WARNING, "has no $1, where the name of the user would stand"
    if database in RESERVED:
        message = f'cannot use the reserved "{database}" database as an auth_dbname'
        yield (*path, "auth_dbname"), Severity.WARNING, message
    elif database is not None and settings.database(database) is None:
        yield (*path, "auth_dbname"), Severity.WARNING, f'there is no database "{database}"'


def _mode(path: str) -> int:
    """Return the file's mode, 0 when it cannot be found: that has been said already."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0


def _pools(settings: Settings) -> Iterator[Hint]:
    if settings.reserve_pool_timeout == 0 and settings.reserve_pool_size:
        yield ("reserve_pool_size",), Severity.WARNING, "has no effect while reserve_pool_timeout is 0"
    yield from _sizes(settings, DatabaseSettings(), ())
    for name, entry in settings.databases.items():
        if {"pool_size", "min_pool_size", "max_db_connections"} & entry.model_fields_set:
            yield from _sizes(settings, entry, ("databases", name))


def _sizes(settings: Settings, entry: DatabaseSettings, path: Path) -> Iterator[Hint]:
    size = pool_size(settings, entry, _NOBODY)
    least = settings.min_pool_size if entry.min_pool_size is None else entry.min_pool_size
    most = entry.max_db_connections or settings.max_db_connections
    if size and least > size:
        message = f"is more than the pool size of {size}, which is the limit"
        yield (*path, "min_pool_size"), Severity.WARNING, message
    if most and size > most:
        key = (*path, "max_db_connections")
        yield key, Severity.WARNING, f"keeps every pool below its size of {size}"


def _databases(settings: Settings) -> Iterator[Hint]:
    if not settings.databases:
        yield ("databases",), Severity.WARNING, "there are none, so clients can use the console only"
    for name, entry in settings.databases.items():
        if entry.password is not None and entry.user is None:
            message = "is used only together with user"
            yield ("databases", name, "password"), Severity.WARNING, message
        if name == FALLBACK and entry.dbname is not None:
            message = f'every database that has no entry leads to "{entry.dbname}"'
            yield ("databases", name, "dbname"), Severity.WARNING, message


def _server_encryption(settings: Settings) -> Iterator[Hint]:
    for key, message in contradictions(settings, DatabaseSettings()):
        yield (_GLOBAL[key],), Severity.ERROR, message
    if settings.server_tls_ca_file not in ("", SYSTEM) and not _ever_verified(settings):
        message = f"has no effect: server_tls_sslmode {settings.server_tls_sslmode} checks no certificate"
        yield ("server_tls_ca_file",), Severity.WARNING, message
    for name, entry in settings.databases.items():
        if not entry.model_fields_set & _ENTRY:
            continue
        for key, message in contradictions(settings, entry):
            yield ("databases", name, key), Severity.ERROR, message
        mode = server_tls(settings, entry).mode
        if entry.sslrootcert not in (None, SYSTEM) and not mode.verifies:
            message = f"has no effect: sslmode {mode} checks no certificate"
            yield ("databases", name, "sslrootcert"), Severity.WARNING, message


def _ever_verified(settings: Settings) -> bool:
    entries = [DatabaseSettings(), *settings.databases.values()]
    return any(server_tls(settings, entry).mode.verifies for entry in entries)
