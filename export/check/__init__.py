"""Compares graphs with the checkpoint that they were made from."""
