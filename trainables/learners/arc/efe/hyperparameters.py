"""Hyperparameters of `efe`, apart from `learner.py` because the modules that it imports read them, too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from trainables.learners.arc.config import ArcLearnerConfig
from trainables.learners.arc.efe.memory import Memory
from trainables.optimizer import StepConfig
from trainables.options import option

GROUPS = ("backward", "encoder", "preference", "base")
TERMS = ("risk", "ambiguity", "step", "bidirectional", "anchor", "alignment", "reversibility")


@dataclass(frozen=True)
class EfeHyperparameters(StepConfig, ArcLearnerConfig):
    learning_rate: float = 4e-3  # AdamW step size of the forward model; each part is clipped by itself
    backward_multiplier: float = 1.0  # of the learning rate, for the backward model
    encoder_multiplier: float = 1.0  # for the encoder of demonstrations
    preference_multiplier: float = 1.0  # for the preference
    hidden_size: int = option(48, shapes_weights=True)  # numbers a cell holds
    horizon: int = 8  # recurrent steps from input to outcome
    per_device_train_batch_size: int = 8  # grids in an AdamW step: all demonstrations equally often, augmented anew
    steps_per_round: int = 32  # AdamW steps per ARC task in a round
    ema_decay: float = 0.95  # decay of the averaged weights, which give the answers; 0: the last weights
    dihedral: bool = True  # train on, and vote over, the eight turns and mirrors of every grid
    permute_colours: bool = False  # rename the colours that are not in every demonstration, anew in every step

    # Weights of the terms, per nat of cross-entropy. None helped in the ablation in docs/results/arc.md: all are off.
    risk: float = 0.0  # the outcome's colours against the learned preference
    ambiguity: float = 0.0  # entropy of the outcome
    step: float = 0.0  # share of the horizon at which the outcome is not yet reached
    bidirectional: float = 0.0  # divergence of forward and backward trajectories; trains the backward model
    anchor: float = 0.0  # the preference against the mean preference of solved tasks
    alignment: float = 0.0  # the context against the base's features
    reversibility: float = 0.0  # error of the backward model when it starts from the outcome

    # the encoder reads the frozen base's features of the demonstrations (no gain was measured)
    features: bool = option(False, shapes_weights=True)
    # LoRA rank on that base, trained through those features; 0: the base stays frozen
    base_r: int = option(0, shapes_weights=True)
    base_multiplier: float = 0.1  # of the learning rate, for that adapter
    size_head: bool = False  # a trained head chooses the output's size where lenses disagree; False: the best lens
    # solved tasks in memory; 0: no memory and no probes, a third of the cost (no sure gain)
    memory_capacity: int = option(0, shapes_weights=True)
    memory_k: int = 1  # solved tasks whose weights are averaged into a warm start
    memory_similarity: float = 0.5  # cosine above which a solved task is a match
    eviction: Literal["oldest", "least_used"] = "oldest"
    success_threshold: float = 1.0  # share of a held-out demonstration's views to solve before a task is remembered

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"hidden_size": 1, "horizon": 1, "per_device_train_batch_size": 1, "steps_per_round": 1, "memory_k": 1}
        for field, bound in (least | {"memory_capacity": 0, "base_r": 0}).items():
            if getattr(self, field) < bound:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be at least {bound}")
        rates = (*(f"{part}_multiplier" for part in GROUPS), *TERMS)
        for field in rates:
            if not 0 <= getattr(self, field) < math.inf:
                raise ValueError(f"{field} is {getattr(self, field)}; it must be a finite number >= 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if not 0 < self.success_threshold <= 1:
            raise ValueError(f"success_threshold is {self.success_threshold}; a share above 0, at most 1, is needed")
        self.memory()
        if self.alignment and not self.features:
            raise ValueError(f"alignment is {self.alignment}, and features are off; turn features on, or set it to 0")
        if self.base_r and not self.features:
            raise ValueError(f"base_r is {self.base_r}, and features are off; turn features on, or set it to 0")

    def memory(self) -> Memory | None:
        if not self.memory_capacity:
            return None
        similar, admitted = self.memory_similarity, self.success_threshold
        return Memory(self.memory_capacity, self.memory_k, similar, self.eviction, admitted)
