"""Command lines: sweep scripts and `espalier`."""
