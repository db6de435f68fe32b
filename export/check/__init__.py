"""Graphs against the checkpoint that they were made from."""
