"""Search space of LoRA with a soft prompt: both adapters' axes, and a learning rate for each."""

from search_spaces import lora, soft_prompt
from search_spaces.space import Space

# The prompt needs a rate about ten times LoRA's, so it keeps its own range.
SPACE = lora.SPACE | soft_prompt.PROMPT | Space({"prompt_learning_rate": soft_prompt.RATE})
