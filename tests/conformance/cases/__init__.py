"""The numbered cases of tests/bad_input.md, each one test (or a few) that any target can be put to."""
