"""Checks for worthless scores: guards on data, near-duplicates, warnings on a trial's metrics."""
