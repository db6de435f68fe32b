"""Fuzzing: feed mutants of every file that may come from someone else to the code that reads it.

Each mutant must be accepted, or refused with a `DiffutronError`, within 10 seconds and 2 GB of memory.
`python -m tests.fuzz` runs for a minute, with `--seconds 3600` for an hour. A seed and a number reproduce a mutant.
"""
