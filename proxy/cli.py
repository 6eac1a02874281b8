"""The command line: PgBouncer's flags, and subcommands beside them.

The law of this file: everything that can go wrong before the daemon runs is said here, on stderr, with exit
code 1; settings are never repeated as flags. Imports are late, so that -V and -h answer at once.
"""

import argparse
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from proxy.arguments import Parser
from proxy.version import is_compiled, is_pump_built, version_text

if TYPE_CHECKING:
    from config import Report, Settings

logger = logging.getLogger(__name__)

OWN_DESCRIPTORS: Final = 16
NEEDED_LATER: Final = ("concurrent.futures.thread", "encodings.ascii", "encodings.idna", "encodings.latin_1")
SUBCOMMANDS_HELP: Final = """\
subcommands:
  howdah check CONFIG   say what is wrong with a configuration, without starting
  howdah demo           PostgreSQL, the pooler and many clients, live (howdah demo -h)

signals:
  SIGHUP reload, SIGTERM wait for clients, SIGINT wait for servers, SIGQUIT stop at once, SIGUSR1 pause,
  SIGUSR2 resume
"""


class Fatal(Exception):
    """The daemon cannot start; the text says why."""


def run() -> NoReturn:
    """The process `howdah`: `main`, and then its end.

    A thread that looks up a name may hang for minutes: it must not keep a pooler that is told to stop.
    """
    code = main()
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 for a clean end, 1 for anything that went wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    subcommand = _SUBCOMMANDS.get(words[0]) if words else None
    if subcommand is not None:
        return subcommand(words[1:])
    options = _daemon_parser().parse_args(words)
    if options.version:
        print(version())
        return 0
    if options.config is None:
        print("howdah: need the name of a configuration file, see howdah -h for usage", file=sys.stderr)
        return 1
    return _run_daemon(options)


def _daemon_parser() -> Parser:
    parser = Parser(
        prog="howdah",
        usage="howdah [OPTION]... CONFIG",
        description="Pool PostgreSQL connections as the configuration (pgbouncer.ini or TOML) says.",
        epilog=SUBCOMMANDS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config", metavar="CONFIG", nargs="?", help="pgbouncer.ini, or a file ending in .toml"
    )
    parser.add_argument("-d", "--daemon", action="store_true", help="run in the background; needs pidfile")
    parser.add_argument("-q", "--quiet", action="store_true", help="no log on stderr")
    parser.add_argument(
        "-R", "--reboot", action="store_true", help="accepted, without effect: use so_reuseport"
    )
    parser.add_argument("-u", "--user", metavar="USER", help="system user to become")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a more talkative log; repeatable")
    parser.add_argument("-V", "--version", action="store_true", help="show the version and what it runs on")
    return parser


def version() -> str:
    """What -V prints: ourselves in SHOW VERSION's words, then what we run on, one per line."""
    import platform
    import ssl

    compiled, pump = is_compiled(), is_pump_built()
    return "\n".join(
        [
            version_text(compiled=compiled, pump=pump),
            f"python: {platform.python_implementation()} {platform.python_version()}",
            f"event loop: {_uvloop_version()}",
            f"openssl: {ssl.OPENSSL_VERSION}",
            f"compiled: {'yes' if compiled else 'no'}",
            f"pump: {'yes' if pump else 'no'}",
        ]
    )


def _uvloop_version() -> str:
    from importlib import metadata

    try:
        return f"uvloop {metadata.version('uvloop')}"
    except metadata.PackageNotFoundError:
        return "asyncio (no uvloop)"


def _run_daemon(options: argparse.Namespace) -> int:
    from config import read
    from proxy.process import ProcessError

    report = read(options.config)
    if report.errors:
        for problem in report.errors:
            print(f"howdah: {problem}", file=sys.stderr)
        return 1
    try:
        return _start(report, options)
    except (Fatal, ProcessError) as exc:
        print(f"howdah: {exc}", file=sys.stderr)
    except KeyboardInterrupt:
        print("howdah: interrupted during the start", file=sys.stderr)
    return 1


def _start(report: "Report", options: argparse.Namespace) -> int:
    from proxy import log, process, worker

    settings = report.settings
    _import_what_comes_later(settings)
    _become_unprivileged(options.user or settings.user)
    _check_tls(settings)
    pidfile = process.PidFile(settings.pidfile) if settings.pidfile else None
    if pidfile is not None:
        pidfile.check()
    try:
        log.check(settings)
    except OSError as exc:
        raise Fatal(f"could not open the log: {exc}") from exc
    if options.daemon:
        _check_background(settings)
        process.daemonize()
    if pidfile is not None:
        pidfile.create()
    try:
        quiet = options.quiet or options.daemon
        log.setup(settings, quiet=quiet, verbose=options.verbose)
        _log_warnings(report, options)
        report_limits(settings)
        if settings.workers > 1:
            from proxy import supervisor

            return supervisor.run(
                settings, options.config, worker.serve, quiet=quiet, verbose=options.verbose
            )
        return worker.run(settings, options.config, quiet=quiet, verbose=options.verbose)
    except Exception:
        # In the background nobody would see a traceback on stderr.
        logger.critical("the daemon has failed", exc_info=True)
        return 1
    finally:
        if pidfile is not None:
            pidfile.remove()
        log.flush()


def _log_warnings(report: "Report", options: argparse.Namespace) -> None:
    for problem in report.warnings:
        logger.warning("%s", problem)
    if options.reboot:
        logger.warning("-R does nothing here: start a second process with so_reuseport and stop the first")


def _import_what_comes_later(settings: "Settings") -> None:
    """Another user may not be able to read the place where Python and we are installed, such as a home."""
    names = list(NEEDED_LATER)
    if settings.metrics_addr:
        names.append("proxy.metrics.http")
    if settings.workers > 1:
        names.append("proxy.supervisor")
    if settings.event_loop == "uvloop":
        names.append("uvloop")
    for name in names:
        importlib.import_module(name)


def _become_unprivileged(user: str | None) -> None:
    from proxy import process

    if user:
        process.become_user(user)
    if process.is_root():
        raise Fatal("Howdah should not run as root: name a system user with `user =` or -u")


def _check_tls(settings: "Settings") -> None:
    """In the background nobody would see what is wrong with a certificate."""
    from proxy import tls_contexts

    if problems := tls_contexts.problems(settings):
        raise Fatal("\nhowdah: ".join(map(str, problems)))


def _check_background(settings: "Settings") -> None:
    if not settings.pidfile:
        raise Fatal("-d needs pidfile in the configuration")
    if not settings.logfile and not settings.syslog:
        raise Fatal("-d needs logfile or syslog in the configuration: nobody could read stderr")


def report_limits(settings: "Settings") -> None:
    """Raise the limit of file descriptors, and log whether it can hold what the settings allow."""
    from proxy.process import raise_fd_limit

    soft, hard = raise_fd_limit()
    expected = expected_descriptors(settings)
    logger.info(
        "kernel file descriptor limit: %d (hard: %d); max_client_conn: %d, max expected fd use: %d",
        soft,
        hard,
        settings.max_client_conn,
        expected,
    )
    if 0 <= soft < expected:
        logger.warning(
            "%d file descriptors may not be enough: raise the limit (ulimit -n, LimitNOFILE=)", soft
        )


def expected_descriptors(settings: "Settings") -> int:
    """Descriptors in use when every limit is reached: one per client, one per server, some for ourselves.

    Pools without a limit count as empty, and `*` as one database: then it is a lower bound.
    """
    users = list(settings.credentials) or [""]
    total = settings.max_client_conn + OWN_DESCRIPTORS
    for name, entry in settings.databases.items():
        servers = 0
        for user in [entry.user] if entry.user else users:
            pool = settings.for_pool(name, user)
            servers += pool.pool_size + pool.reserve_pool_size if pool.pool_size else 0
        most = entry.max_db_connections or settings.max_db_connections
        total += min(servers, most) if most else servers
    return total


def check(arguments: Sequence[str]) -> int:
    """`howdah check CONFIG`: print every problem with file and line; returns 1 if any stops the start."""
    parser = Parser(prog="howdah check", description="Say what is wrong with a configuration.")
    parser.add_argument("config", metavar="CONFIG", help="pgbouncer.ini, or a file ending in .toml")
    options = parser.parse_args(arguments)
    from config import Severity, read
    from proxy import tls_contexts

    report = read(options.config)
    problems = report.problems if report.errors else report.problems + tls_contexts.problems(report.settings)
    for problem in problems:
        print(problem)
    if any(problem.severity is Severity.ERROR for problem in problems):
        return 1
    print(f"{options.config}: ok")
    return 0


def demo(arguments: Sequence[str]) -> int:
    """`howdah demo`: see `proxy.demo`."""
    from proxy.demo.command import main as run_demo

    return run_demo(arguments)


_SUBCOMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {"check": check, "demo": demo}
