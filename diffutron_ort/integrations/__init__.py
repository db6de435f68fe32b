"""Others' interfaces over ours."""
