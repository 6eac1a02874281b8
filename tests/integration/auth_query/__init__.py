"""auth_query at a real PostgreSQL."""
