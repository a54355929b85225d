"""The trunk of `joint`: one per-cell network that is trained on the demonstrations of many ARC tasks together.

All tasks share its weights. Each has a vector that is added to the first state of every cell, so the vector tells the
network which rule to follow. A step sees grids of one side, of tasks drawn at random, in random views and colours. Step
k draws from (seed, k) alone. Related: a vector for each task in one transformer (mdlARC, 2026), and conditional neural
processes (Garnelo et al. 2018).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.learners.arc.canvas import Canvas
from trainables.learners.arc.joint.hyperparameters import JointHyperparameters
from trainables.learners.arc.percell.batch import all_views, cross_entropy, recoloured
from trainables.learners.arc.percell.net import PercellNets, look
from trainables.tasks.arc.views import TURNS

FEWEST, MOST, CELLS = 4, 32, 3200  # grids of a step, and about how many cells they have together
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Trunk:
    """`weights` by parameter, with a first axis of one network; `vectors` (hidden_size,) by the tasks' keys."""

    weights: Mapping[str, Tensor]
    vectors: Mapping[str, Tensor]

    def vector(self, key: str) -> Tensor:
        """Return a task's vector; the mean of all for a task that took no part."""
        own = self.vectors.get(key)
        return torch.stack([*self.vectors.values()]).mean(0) if own is None else own

    def state(self) -> dict[str, Any]:
        return {"weights": dict(self.weights), "vectors": dict(self.vectors)}


def train_trunk(canvases: Mapping[str, Canvas], config: JointHyperparameters, seed: int) -> tuple[Trunk, float]:
    """Train a trunk on these tasks. Return it, and the mean loss of the last tenth of its steps, in nats per cell."""
    nets, keys = PercellNets(config.hidden_size, [seed]), [*canvases]
    vectors = nn.Parameter(torch.zeros(len(keys), config.hidden_size))
    learned = [*nets.parameters(), *([vectors] if config.task_vector else [])]
    optimizer = torch.optim.AdamW(learned, lr=config.trunk_learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.trunk_learning_rate, config.trunk_steps)
    data, losses = _Data(canvases, config), list[float]()
    for step in range(config.trunk_steps):
        places, cells, targets = data.draw(np.random.default_rng((seed, step)))
        logits = nets.run(*look(cells), config.recurrent_steps, config.supervised_steps, vectors[places][None])
        loss = torch.stack([cross_entropy(each, targets) for each in logits]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, config.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    weights = {name: value.detach() for name, value in nets.named_parameters()}
    trunk = Trunk(weights, dict(zip(keys, vectors.detach(), strict=True)))
    return trunk, float(np.mean(losses[-max(1, len(losses) // 10) :]))


class _Data:
    """All views of all tasks, by the side of their grids."""

    def __init__(self, canvases: Mapping[str, Canvas], config: JointHyperparameters) -> None:
        self._config, self._canvases = config, [*canvases.values()]
        views = range(TURNS) if config.dihedral else range(1)
        self._pairs = [all_views(canvas, views, canvas.side) for canvas in self._canvases]
        self._of_side: dict[int, list[int]] = defaultdict(list)
        for place, canvas in enumerate(self._canvases):
            self._of_side[canvas.side].append(place)

    def draw(self, rng: np.random.Generator) -> tuple[list[int], Tensor, Tensor]:
        """Return the places of N tasks, and a grid of each: cells (1, N, P, S, S) and targets (1, N, S, S)."""
        side = self._canvases[int(rng.integers(len(self._canvases)))].side
        count = min(MOST, max(FEWEST, CELLS // side**2))
        places = rng.choice(self._of_side[side], count).tolist()
        drawn = [self._grid(place, rng) for place in places]
        cells, targets = (torch.from_numpy(np.concatenate(part)[None]).long() for part in zip(*drawn, strict=True))
        return places, cells, targets

    def _grid(self, place: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        inputs, outputs = self._pairs[place]
        view, number = int(rng.integers(inputs.shape[0])), int(rng.integers(inputs.shape[1]))
        cells, targets = inputs[view, number][None], outputs[view, number][None]
        if self._config.permute_colours:
            cells, targets = recoloured(cells, targets, self._canvases[place].free_colours, rng)
        return cells, targets
