"""Search space of DoRA (Liu et al. 2024): LoRA's, because DoRA adds no hyperparameter."""

from search_spaces import lora

SPACE = lora.SPACE
