"""Folders that one can generate from: found, read and checked."""
