"""Templates whose named slots the model fills, within the bounds of each."""
