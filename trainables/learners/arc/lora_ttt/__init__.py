"""lora_ttt: a LoRA adapter for each ARC task, trained at test time."""
