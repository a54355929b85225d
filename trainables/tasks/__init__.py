"""The tasks. A new task is one file; nothing is registered."""
