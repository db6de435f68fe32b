"""Checkpoint -> bundle, with torch; what `diffutron-ort export` runs."""

from .command import export

__all__ = ["export"]
