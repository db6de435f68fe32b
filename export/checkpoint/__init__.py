"""Reads and checks what is exported: configuration, weights, adapter and tokenizer."""
