"""The commands of `espalier` that work on a sweep's folder."""
