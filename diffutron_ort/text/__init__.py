"""Text to tokens and back: the chat template, the tokenizer, and the stop rule."""
