"""Judging a sweep: intervals and leaderboards."""
