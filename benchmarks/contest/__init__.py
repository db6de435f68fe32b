"""The parts of `peers.py`: who is measured (contenders), in a process of its own (worker), and what comes of it."""
