"""Bundles, the folders that hold a model: locate, download, read and check them."""
