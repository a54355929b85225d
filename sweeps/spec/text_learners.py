"""The learners that can be compared on any task of questions and answers in text, with their spaces."""

from __future__ import annotations

from typing import Any

from search_spaces import dora, full, grpo, hybrid, ia3, lora, soft_prompt
from trainables.core import Pair, Task
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig

SEARCHED = ((LoraConfig(), lora.SPACE), (SoftPromptConfig(), soft_prompt.SPACE), (HybridConfig(), hybrid.SPACE))
# The first three cannot share a base, and the last samples what it learns from, so that their trials take longer.
OPTIONAL = (
    (DoraConfig(), dora.SPACE),
    (Ia3Config(), ia3.SPACE),
    (FullConfig(), full.SPACE),
    (GrpoConfig(), grpo.SPACE),
)


def text_learners(task: Task, base: str) -> dict[str, Any]:
    """Return `pairs`, `optional` and `space` of a `Sweep`: LoRA, a soft prompt and both; DoRA, IA3, full fine-tuning
    and GRPO if --learner names them."""
    return {
        "pairs": tuple(Pair(learner, task, base) for learner, _ in SEARCHED),
        "optional": tuple(Pair(learner, task, base) for learner, _ in OPTIONAL),
        "space": {learner.name: space for learner, space in (*SEARCHED, *OPTIONAL)},
    }
