"""What this process costs."""

import resource
import time

_PAGE = resource.getpagesize()


def processor_time() -> float:
    """Seconds of processor time used so far."""
    return time.process_time()


def resident_memory() -> int:
    """Bytes resident; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except OSError:
        return 0
