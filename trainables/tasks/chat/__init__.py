"""Conversations read from files: rows, data, statistics."""
