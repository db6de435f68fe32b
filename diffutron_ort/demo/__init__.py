"""The page in a browser, served on loopback."""
