"""percell: a small network per ARC task."""
