"""What may vary for LoRA and a soft prompt together: both adapters' axes, and a step size for each."""

from search_spaces import lora, soft_prompt
from search_spaces.space import Space

# The prompt needs steps some ten times larger than LoRA's, so it keeps the range it has alone.
SPACE = lora.SPACE | soft_prompt.PROMPT | Space({"prompt_learning_rate": soft_prompt.RATE})
