"""joint: a network for each ARC task that starts from one that was trained on many tasks."""
