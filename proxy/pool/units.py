"""The unit of time in everything below here: nanoseconds of one monotonic clock, where settings say
seconds.
"""

from typing import Final

SECOND: Final = 1_000_000_000
