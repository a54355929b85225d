"""Many trials on one base: a host, the adapters stacked on its base, and how their rows are batched."""
