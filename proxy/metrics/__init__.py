"""Numbers for machines: a collector over snapshots, and the HTTP server it is asked through."""

import os

# A list that aiohttp freezes once, at its start, needs no compiled code, which would cost 1 MiB of memory.
os.environ.setdefault("FROZENLIST_NO_EXTENSIONS", "1")
