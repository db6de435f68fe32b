"""Quantizes graphs, and measures what that costs."""
