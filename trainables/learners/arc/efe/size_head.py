"""The size head of `efe`: chooses an output's size where the lenses that fit disagree.

A lens is a fixed transformation of the input that predicts the output's size (`arc/lenses.py`). The features of a
proposed size are how well the lenses of each family that propose it agree with the demonstrations, and their share of
all lenses. A linear head scores the features. Its softmax over the proposals is trained on held-out demonstrations,
whose sizes the lenses that fit the other demonstrations propose. All tasks of a split train one head, on their
demonstrations alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from trainables.learners.arc.canvas import Fit, Sizes, hypotheses
from trainables.tasks.arc.task import Puzzle

FAMILIES = (
    "turn",
    "mosaic",
    "tile",
    "enlarge",
    "frame",
    "part",
    "commonest",
    "drawn",
    "without",
    "corner",
    "box",
    "object",
)  # the first word of a lens's name
STEPS, RATE, DECAY = 200, 0.1, 1e-3
Proposals = Mapping[Sizes, Sequence[Fit]]


class SizeHead:
    """A `canvas.Chooser`. Before training, a size's score is the sum of its families' agreements."""

    def __init__(self) -> None:
        self.weights = torch.cat([torch.ones(len(FAMILIES)), torch.zeros(1)])

    def __call__(self, proposals: Proposals) -> Sizes:
        return list(proposals)[int((describe(proposals) @ self.weights).argmax())]

    def train(self, puzzles: Iterable[Puzzle]) -> int:
        """Train with full-batch AdamW on held-out demonstrations whose size is among several proposals; return their
        number."""
        cases = [case for puzzle in puzzles for case in held_out(puzzle)]
        if not cases:
            return 0
        weights = self.weights.clone().requires_grad_()
        optimizer = torch.optim.AdamW([weights], lr=RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            loss = torch.stack([-(described @ weights).log_softmax(0)[right] for described, right in cases]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.weights = weights.detach()
        return len(cases)


def describe(proposals: Proposals) -> Tensor:
    """Return the features (sizes, families + 1): the best agreement of each family, and the share of all lenses."""
    rows = []
    total = sum(len(fits) for fits in proposals.values())
    for fits in proposals.values():
        best = dict.fromkeys(FAMILIES, 0.0)
        for fit in fits:
            family = fit.name.split()[0]
            best[family] = max(best[family], fit.agreement)
        rows.append([*best.values(), len(fits) / total])
    return torch.tensor(rows)


def held_out(puzzle: Puzzle) -> Iterable[tuple[Tensor, int]]:
    """Yield, for each demonstration as a test of the others, the features of the proposals and the index of the right
    one."""
    pairs = puzzle.demonstrations
    for index, (source, target) in enumerate(pairs if len(pairs) > 1 else ()):
        proposals = hypotheses(Puzzle(pairs[:index] + pairs[index + 1 :], (source,)))
        sizes = list(proposals)
        if len(sizes) > 1 and (target.shape,) in proposals:
            yield describe(proposals), sizes.index((target.shape,))
