"""A network that cuts, slices, delays and loses bytes, on either side of a pooler.

Law: however the bytes come, the replies are those of PostgreSQL; wherever they
stop, a client has heard the beginning of its own replies and at most one error,
nothing is done twice, and the next client is served.
`python -m tests.conformance.faults` cuts at every byte.
"""
