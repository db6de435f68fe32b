"""Many prompts at once: a file in, a file out."""
