"""Conversations in a manner of one's own."""
