"""Coverage-guided fuzzing of everything that reads bytes from a stranger: `python -m tests.conformance.fuzz`.

Law: whatever the bytes, a reader says ProtocolError or nothing; and what it makes of them does not depend on
how they were cut. Unlike the rest of the suite this looks inside: a fuzzer needs to see what it reached.
"""
