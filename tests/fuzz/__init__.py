"""Hostile files: mutants of every file that is read, and what may happen to them.

A mutant is accepted or refused by a `DiffutronError`, within 10 seconds and 2 GB. `python -m tests.fuzz` tries them for
a minute, `--seconds 3600` for an hour; the same seed and number make the same mutant again.
"""
