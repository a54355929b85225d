"""Yes/no questions that need several steps."""
