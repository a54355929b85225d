"""One file per task. A new task is one file; nothing is registered."""
