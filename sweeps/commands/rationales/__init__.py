"""`espalier rationales`: rationales for training questions."""
