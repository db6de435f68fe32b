"""Check what a bundle does on this machine, and how fast."""
