"""What is exported: configuration, weights, adapter and tokenizer, as they are found."""
