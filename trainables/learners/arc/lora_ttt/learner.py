"""lora_ttt: a LoRA adapter per ARC task, trained at test time on that task's demonstrations alone.

Source: Akyurek et al. 2024, "The Surprising Effectiveness of Test-Time Training for Few-Shot Learning" (arXiv
2411.07279): leave-one-out demonstrations under random turns and colours. Answers under several views, counted or
weighed by their probability under all views: that paper and Franzen et al. 2024, "The LLM ARChitect". Adapters of
`tasks_at_once` ARC tasks train and answer together on one frozen base (`lora_ttt_waves.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from trainables.core import Task
from trainables.learners.arc.lora_ttt.hyperparameters import LoraTttHyperparameters


@dataclass(frozen=True)
class LoraTttConfig(LoraTttHyperparameters):
    name: ClassVar[str] = "lora_ttt"
    needs_base: ClassVar[bool] = True
    only_task: ClassVar[str] = "arc"
    per_example: ClassVar[bool] = True

    def rounds_per_pass(self, task: Task) -> int:
        """Every round visits every ARC task: one."""
        return 1

    def build(self, base: Any, task: Task, seed: int) -> Any:
        from trainables.learners.arc.lora_ttt.waves import (
            LoraTttLearner,  # torch, which a trial's own process does without
        )

        return LoraTttLearner(self, base, task, seed)
