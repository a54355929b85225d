"""`espalier rationales`: reasoning for training questions."""
