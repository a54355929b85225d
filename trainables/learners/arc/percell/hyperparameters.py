"""Hyperparameters of `percell`, apart from `learner.py` because the modules that it imports read them, too."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.learners.arc.config import ArcLearnerConfig
from trainables.optimizer import StepConfig
from trainables.options import option


@dataclass(frozen=True)
class PercellHyperparameters(StepConfig, ArcLearnerConfig):
    learning_rate: float = 4e-3  # AdamW step size; a network of its own, so no base bounds it
    hidden_size: int = option(48, shapes_weights=True)  # numbers a cell holds; a multiple of 16 fills the vector units
    recurrent_steps: int = 8  # steps of the shared update; how far a neighbour's neighbour reaches, in cells
    supervised_steps: int = 1  # the last so many recurrent steps enter the loss
    per_device_train_batch_size: int = 8  # grids in an AdamW step: all demonstrations equally often, augmented anew
    steps_per_round: int = 32  # AdamW steps per ARC task in a round; about a second on one thread
    seeds: int = option(1, shapes_weights=True)  # networks per task, from different seeds, whose answers are averaged
    ema_decay: float = 0.95  # decay of the averaged weights, which give the answers; 0: the last weights
    dihedral: bool = True  # train on, and vote over, the eight turns and mirrors of every grid
    permute_colours: bool = False  # rename the colours that are not in every demonstration, anew in every step

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (
            "hidden_size",
            "recurrent_steps",
            "supervised_steps",
            "per_device_train_batch_size",
            "steps_per_round",
            "seeds",
        )
        for field in counts:
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if self.supervised_steps > self.recurrent_steps:
            remedy = f"recurrent_steps is {self.recurrent_steps}; supervise at most that many"
            raise ValueError(f"supervised_steps is {self.supervised_steps}, but {remedy}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
