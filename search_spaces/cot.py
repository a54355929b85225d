"""What may vary for learning rationales: what may vary for LoRA."""

from search_spaces import lora

SPACE = lora.SPACE
