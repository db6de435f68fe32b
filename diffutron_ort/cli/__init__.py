"""The command line: one file a command, and what several share."""
