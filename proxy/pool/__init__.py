"""Pools and what belongs to them, as plain synchronous data structures.

Nothing here does I/O or reads a clock: time comes in as nanoseconds of a monotonic clock, and what has to be
done on the network is asked of the interfaces in `interfaces`.
"""
