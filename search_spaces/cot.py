"""Search space of cot: LoRA's, without rows per step, so that phases can be compared."""

from search_spaces import lora

SPACE = lora.SPACE.without("per_device_train_batch_size")
