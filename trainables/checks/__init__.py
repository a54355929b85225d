"""What would make scores worthless: guards on data, near-duplicates, warnings on a trial's metrics."""
