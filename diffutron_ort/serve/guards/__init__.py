"""What stands before the app: who may ask, how much, and how long it may take."""
