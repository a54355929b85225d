"""efe: an agent with a memory, trained on the free energy it expects."""
