"""`howdah demo`: a PostgreSQL of its own, the pooler in front of it, many clients and a live table."""
