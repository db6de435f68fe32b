"""What benchmarks/frontier.py is made of."""
