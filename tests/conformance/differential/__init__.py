"""Random pipelines, at PostgreSQL and through the pooler: every reply must be the same, and none early.

Law: the expectation is what PostgreSQL itself answers to the very same bytes,
never an opinion. All chance is used up when a script is written, so that a
seed is a script. `python -m tests.conformance.differential` is the long form.
"""
