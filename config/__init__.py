"""The settings: every key, every source, one frozen object.

`load(path)` returns `Settings` or raises `ConfigError` with all problems; `check(path)` returns the problems,
warnings included. Nothing here knows the network, the protocol or the daemon.
"""

from .effective import PoolSettings
from .loading import Report, check, load, read
from .problems import ConfigError, NotChangeable, Problem, Severity, UnknownSetting
from .secret import Secret
from .settings import Settings

__all__ = [
    "ConfigError",
    "NotChangeable",
    "PoolSettings",
    "Problem",
    "Report",
    "Secret",
    "Settings",
    "Severity",
    "UnknownSetting",
    "check",
    "load",
    "read",
]
