"""Running a sweep: from a `Sweep` value to finished trials."""
