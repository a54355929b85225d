"""Learners for ARC tasks, and what they share."""
