"""Training in a host or alone: steps, optimizers, out-of-memory handling, packing of sequences."""
