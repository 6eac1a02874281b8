"""The benchmark: PostgreSQL, Howdah and PgBouncer measured in one run, turn by turn.

`python -m tests.bench` prints a table and can write JSON; nothing here asserts a time. A figure counts
only beside the same figure of a second PgBouncer over the first of the same run: the noise of the machine.
Reading order: `workloads`, `rounds`, `report`; then `targets` (who is measured) and `accounting` (how).
"""
