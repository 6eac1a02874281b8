"""A PostgreSQL server that keeps to nothing, behind one database of a pooler that serves others as well.

Law: what it says reaches its own client or nobody. Everybody else, also in the
same pool, gets whole replies of their own or one clean error; the client
concerned gets what it was sent or one error, and never waits for ever.
`python -m tests.conformance.hostile` runs every case and every seed.
"""
