"""What texts cost models: texts to score, and figures of two models on the same texts."""
