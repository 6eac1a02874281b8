"""The states of a server, and what each is for.

A state is a set: a server is in exactly the set of its pool that its state names, and only `Pool.move` moves
it. The numbers are indexes into `Pool.servers`. Columns of SHOW POOLS and the metrics use the same words.
"""

from typing import Final

LOGIN: Final = 0
"""A slot is taken and the connection is being made: dialling, authenticating, running connect_query."""
IDLE: Final = 1
"""Proven clean and recently used: may be lent at once."""
ACTIVE: Final = 2
"""Lent to a session; only here has a server a session."""
USED: Final = 3
"""Clean but unused for longer than server_check_delay: must answer server_check_query before it is lent."""
TESTED: Final = 4
"""Running a query of ours (check, reset, UNLISTEN) with no session."""
BEING_CANCELED: Final = 5
"""Its session is through with it, but a cancel request for it, or the cancelled query, is not."""
CLOSING: Final = 6
"""Told to close; it keeps its slot until PostgreSQL has closed, so that PostgreSQL never sees one too
many.
"""

SERVER_STATES: Final = ("new", "idle", "active", "used", "tested", "being_canceled", "closing")
"""Words of the `state` column of SHOW SERVERS, by state."""
