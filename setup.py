"""Compiles the hot files and the pump where HOWDAH_COMPILE asks for it; all else is in pyproject.toml.

HOWDAH_COMPILE=1 compiles if this machine can, and says in one line if it cannot; `require` fails then.
Without it the build is plain. Compiled modules lie beside their sources in the wheel and are the same text:
which of them runs is said by `howdah -V`, SHOW VERSION, the log and /metrics.
"""

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools._distutils.ccompiler import new_compiler
from setuptools._distutils.errors import CompileError
from setuptools._distutils.sysconfig import customize_compiler

# Those that a transaction passes through, and a login. In a compiled coroutine no `raise` without an error
# may stand behind an await, and no two handlers of one try may share a name.
HOT = (
    "config/effective.py",
    "protocol/client_login.py",
    "protocol/conversation.py",
    "protocol/framer.py",
    "protocol/looks.py",
    "protocol/outstanding.py",
    "protocol/rename.py",
    "protocol/scram.py",
    "protocol/secret.py",
    "protocol/startup.py",
    "protocol/wire.py",
    "proxy/auth.py",
    "proxy/cancel.py",
    "proxy/client.py",
    "proxy/connection.py",
    "proxy/credentials.py",
    "proxy/eager.py",
    "proxy/entry.py",
    "proxy/lobby.py",
    "proxy/names.py",
    "proxy/notes.py",
    "proxy/patience.py",
    "proxy/pieces.py",
    "proxy/pool/book.py",
    "proxy/pool/choice.py",
    "proxy/pool/claims.py",
    "proxy/pool/database.py",
    "proxy/pool/leased.py",
    "proxy/pool/leases.py",
    "proxy/pool/ledger.py",
    "proxy/pool/manager.py",
    "proxy/pool/need.py",
    "proxy/pool/parameters.py",
    "proxy/pool/parties.py",
    "proxy/pool/pool.py",
    "proxy/pool/shares.py",
    "proxy/pool/standing.py",
    "proxy/pool/statements.py",
    "proxy/pool/stats.py",
    "proxy/prepared.py",
    "proxy/rotation.py",
    "proxy/server.py",
    "proxy/session.py",
    "proxy/session_flow.py",
    "proxy/session_replies.py",
    "proxy/session_requests.py",
    "proxy/session_waiting.py",
    "proxy/statement_book.py",
    "proxy/statement_groups.py",
    "proxy/statement_repeats.py",
    "proxy/statement_replies.py",
    "proxy/statement_settings.py",
    "proxy/statement_sql.py",
    "proxy/talk.py",
    "proxy/turnstile.py",
    "proxy/unnamed.py",
    "proxy/welcome.py",
    "proxy/wishes.py",
)
COMPILER = "mypy>=2.4,<3"
# When pip builds, the libraries of the daemon are not installed: they do not matter to hot files.
MYPY_OPTIONS = (
    "--config-file=",
    "--python-version=3.11",
    "--ignore-missing-imports",
    "--follow-imports=silent",
)
# An editable install is the work tree, where a compiled file would hide an edited source.
BUILDS = {"bdist_wheel", "build", "build_ext", "install"}


def wanted() -> str:
    """What HOWDAH_COMPILE asks for: `1`, `require`, or nothing."""
    value = os.environ.get("HOWDAH_COMPILE", "")
    if value not in ("", "0", "1", "require"):
        raise SystemExit(f"HOWDAH_COMPILE = {value}: must be 1, require, or 0 for a plain build")
    return "" if value == "0" else value


def obstacle() -> str:
    """Why this machine cannot compile; empty if it can."""
    try:
        import mypyc.build  # noqa: F401
    except ImportError:
        return f"{COMPILER} is not installed"
    compiler = new_compiler()
    customize_compiler(compiler)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("#include <Python.h>\n")
        try:
            headers = [sysconfig.get_path(name) for name in ("include", "platinclude")]
            compiler.compile([str(source)], output_dir=folder, include_dirs=headers)
        except (CompileError, OSError) as error:
            return f"no C compiler with Python's headers ({error})"
    return ""


def extensions() -> list[Extension]:
    """The hot files as C, where that is wanted and can be had."""
    how = wanted()
    if not how or not BUILDS & set(sys.argv):
        return []
    if why := obstacle():
        if how == "require":
            raise SystemExit(f"howdah: cannot compile: {why}")
        print(f"howdah: a plain build, not compiled: {why}", file=sys.stderr)
        return []
    from mypyc.build import mypycify

    hot: list[Extension] = mypycify([*MYPY_OPTIONS, *HOT], opt_level="3", group_name="howdah")
    if new_compiler().compiler_type == "unix":
        for extension in hot:
            # Else functions call one another through a table, lest one be replaced as they are loaded.
            extension.extra_compile_args = [*extension.extra_compile_args, "-fno-semantic-interposition"]
    # Elsewhere there is no epoll.
    return [*hot, Extension("proxy.pump", ["proxy/pump.c"])] if sys.platform == "linux" else hot


setup(ext_modules=extensions(), setup_requires=[COMPILER] if wanted() else [])
