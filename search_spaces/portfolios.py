"""Configurations that together did well on the recorded tasks. A sweep tries them after the learner's default.

`python benchmarks/portfolio.py --curves benchmarks/bank --size 2` chooses and prints them; numbers are rounded here.
Rates are multiples of the learner's default, which suits the base. Axes that a configuration leaves out are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PORTFOLIOS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "lora": (
        {
            "learning_rate": 0.88,
            "lr_scheduler_type": "linear",
            "warmup_steps": 5,
            "per_device_train_batch_size": 8,
            "weight_decay": 0.07,
            "r": 32,
            "lora_alpha": 32,
            "lora_dropout": 0.09,
        },
        {
            "learning_rate": 0.76,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "per_device_train_batch_size": 16,
            "weight_decay": 0.06,
            "r": 4,
            "lora_alpha": 32,
            "lora_dropout": 0.15,
        },
    ),
}
