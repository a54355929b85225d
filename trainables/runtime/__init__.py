"""Where a trial runs: everything that imports Ray."""
