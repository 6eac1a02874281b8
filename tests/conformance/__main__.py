"""`python -m tests.conformance`: every case at every target, then the further parts of the suite.

Exits with 1 where PostgreSQL passes and Howdah does not, and where a further part fails.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import sections
from tests.conformance.table import LIST, Column, listed, notes, shortfalls, table
from tests.conformance.targets import TARGETS, Played, Target

_TAIL = 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays, prints and judges."""
    options = parser().parse_args(arguments)
    began = time.monotonic()
    try:
        failed = cases(options) if options.targets else False
        failed |= further(parts(options))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    print(f"\n{'FAIL' if failed else 'pass'}, {time.monotonic() - began:.0f} s in all")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument(
        "--case",
        metavar="Onn",
        action="append",
        choices=listed(LIST.read_text()),
        default=[],
        help="one case; repeatable",
    )
    parser.add_argument("--targets", nargs="*", choices=names, default=names, help="default: all of them")
    parser.add_argument(
        "--sections",
        nargs="*",
        choices=sections.NAMES,
        help="the further parts; default: all, none with --case",
    )
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep what pytest said there")
    return parser


def cases(options: argparse.Namespace) -> bool:
    """The table; whether Howdah falls short."""
    wanted = listed(LIST.read_text())
    if options.case:
        wanted = {case: wanted[case] for case in options.case}
    columns, said = [], {}
    for target in TARGETS:
        if target.name not in options.targets:
            continue
        if target.version() is None:
            print(f"{target.title} is not installed here, and has no column", flush=True)
            continue
        _progress(f"{target.title} ...")
        played = target.play(options.case)
        columns.append(target.column(played.results))
        said[target.name] = played
        _keep(options.logs, target, played)
    _progress("")
    return show(wanted, columns, said)


def show(wanted: dict[str, str], columns: Sequence[Column], said: dict[str, Played]) -> bool:
    print(table(wanted, columns))
    remarks, short = notes(wanted, columns), shortfalls(wanted, columns)
    if remarks:
        print("\n" + "\n".join(remarks))
    if short:
        print("\n" + "\n".join(short))
    for name, played in said.items():
        if not played.results:
            print(f"\nno case was played at {name}:", *played.said.splitlines()[-_TAIL:], sep="\n")
    sys.stdout.flush()
    return bool(short)


def parts(options: argparse.Namespace) -> Sequence[str]:
    """Those named; who asks for one case wants no others."""
    if options.sections is not None:
        return list(options.sections)
    return () if options.case else sections.NAMES


def further(names: Sequence[str]) -> bool:
    """One line for each further part; whether one has failed."""
    failed = False
    for name in names:
        _progress(f"{name} ...")
        section = sections.run(name)
        _progress("")
        print(section.line(), flush=True)
        if section.failed:
            print(*section.tail, sep="\n", flush=True)
        failed |= section.failed
    return failed


def _keep(folder: Path | None, target: Target, played: Played) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{target.name}.txt").write_text(played.said)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Whoever starts us in the background may ignore SIGINT, and what is started here would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
