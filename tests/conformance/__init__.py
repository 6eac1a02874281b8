"""What PostgreSQL promises to its clients, asked of PostgreSQL, of PgBouncer and of Howdah alike.

Law: black box. A thing under test is a host, a port, a console, a process that
takes signals, and the PostgreSQL behind it; nothing here imports its code.
`python -m tests.conformance` prints what became of every case.
"""
