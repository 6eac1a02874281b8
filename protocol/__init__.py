"""The PostgreSQL wire protocol and nothing else: no sockets, no clocks, no logging.

Numbers and basic types: tags, wire. Whole messages: startup (those without a tag), frontend, backend. Logging
in, from both sides: login. After login, where nothing is decoded that need not be: framer cuts the stream,
outstanding counts what is owed, trace shows it. Bytes from the other side are never trusted: whatever they
are, what comes out is a value or an errors.ProtocolError. Wire strings are bytes throughout.
"""
