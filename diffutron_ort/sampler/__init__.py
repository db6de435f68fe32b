"""Masks to tokens: canvas, schedule, commits, and the loop; numpy alone."""
