"""Perplexity of many documents: how likely a model finds the texts of files, and how sure that figure is."""
