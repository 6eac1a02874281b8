"""Plays the whole matrix and prints the cells that went wrong; exit code 1 if there are any."""

import sys
import time

from tests.conformance.login_matrix.play import staged
from tests.conformance.login_matrix.rule import cells
from tests.support.certificates import new_pki


def main() -> int:
    began = time.monotonic()
    with new_pki() as pki, staged(pki) as stage:
        played = stage.play(cells())
    for text in played.wrong:
        print(text)
    print(f"{played.count} cells, {len(played.wrong)} wrong, {time.monotonic() - began:.0f} s")
    return 1 if played.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
