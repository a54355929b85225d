"""lora_ttt: a LoRA adapter per ARC task, trained at test time."""
