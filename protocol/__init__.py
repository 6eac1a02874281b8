"""The PostgreSQL wire protocol and nothing else: no sockets, no clocks, no logging."""
