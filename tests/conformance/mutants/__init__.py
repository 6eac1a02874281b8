"""Proof that the suite can fail: faults of one line, each in a copy of the product, and what finds them out.

Law: the product itself is never changed, not even for a moment.
"""
