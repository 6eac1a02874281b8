"""The argument parser of all our commands."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Like argparse's, but a mistake ends with exit code 1, as PgBouncer's do."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}\nTry `{self.prog} -h`.\n")
