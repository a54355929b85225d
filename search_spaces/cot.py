"""What may vary for learning rationales: what may vary for LoRA, but for rows per step, as phases are compared."""

from search_spaces import lora

SPACE = lora.SPACE.without("per_device_train_batch_size")
