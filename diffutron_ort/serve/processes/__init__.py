"""The server as processes: sockets, signals, workers, and what hangs."""
