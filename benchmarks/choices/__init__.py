"""Choices among four answers to nano's questions, and how well their probabilities are calibrated."""
