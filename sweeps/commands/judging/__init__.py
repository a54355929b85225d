"""`espalier judge`: which of two trials replies better."""
