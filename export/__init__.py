"""Converts a checkpoint to a bundle, with torch: what `diffutron-ort export` runs."""

from diffutron_ort_export.command import export

__all__ = ["export"]
