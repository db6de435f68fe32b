"""Whether a bundle does what it should on the machine at hand, and how fast."""
