"""`espalier ui`: the pages of sweeps on this machine, refreshed while they run, and MLflow."""
