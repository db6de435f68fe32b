"""The model behind the server: jobs wait, share passes, and are counted."""
