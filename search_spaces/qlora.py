"""What may vary for QLoRA (Dettmers et al. 2023): what varies for LoRA, and nothing for the sake of 4 bits."""

from search_spaces import lora

SPACE = lora.SPACE
