"""`python -m proxy` is the same as `howdah`."""

from proxy.cli import run

if __name__ == "__main__":
    run()
