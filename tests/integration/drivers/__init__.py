"""Real drivers, configured as their users configure them, at PostgreSQL and through the pooler.

Law: every test is played at PostgreSQL directly as well, so that what it expects is PostgreSQL's opinion.
"""
