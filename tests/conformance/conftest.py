"""The fixtures of the integration tests, for the suites below this folder as well."""

from tests.integration.conftest import (
    alive,
    console,
    fake,
    launch,
    module_launch,
    pooler,
    pytest_runtest_makereport,
    server,
)

__all__ = [
    "alive",
    "console",
    "fake",
    "launch",
    "module_launch",
    "pooler",
    "pytest_runtest_makereport",
    "server",
]
