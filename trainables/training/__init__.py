"""What every training needs, packed or alone: steps, optimizers, out-of-memory handling, packing of sequences."""
