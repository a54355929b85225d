"""Rows read from files or from the hub, and their splits."""
