"""One target in a process of its own: `python -m tests.conformance.fuzz.child TARGET [flags of libFuzzer]`.

Law: the code under test is imported under instrumentation, so nothing may import it before.
"""

import sys

import atheris

with atheris.instrument_imports(include=["protocol", "proxy.deallocate", "tests.conformance.fuzz.targets"]):
    from tests.conformance.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
