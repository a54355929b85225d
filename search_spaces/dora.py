"""What may vary for DoRA (Liu et al. 2024): the same as for LoRA, which it extends without a setting of its own."""

from search_spaces import lora

SPACE = lora.SPACE
