"""Text to tokens and back: chat template, tokenizer, and where an answer ends."""
