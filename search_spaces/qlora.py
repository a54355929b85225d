"""Search space of QLoRA (Dettmers et al. 2023): LoRA's; 4 bits add no axis."""

from search_spaces import lora

SPACE = lora.SPACE
