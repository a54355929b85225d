"""Small configurations of percell."""

from __future__ import annotations

from dataclasses import replace

from trainables.learners.arc.percell.learner import PercellConfig

QUICK = PercellConfig(
    hidden_size=16, recurrent_steps=2, per_device_train_batch_size=6, steps_per_round=30, learning_rate=5e-3
)
SHORT = replace(QUICK, steps_per_round=4)
