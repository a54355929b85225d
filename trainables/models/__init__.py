"""Frozen base models: load them, adapt them, merge adapters into them, tokenize for them."""
