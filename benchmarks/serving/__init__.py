"""The server under load, and what a request costs over the library's call."""
