"""The networks of `efe`: an encoder of the demonstrations, a forward model and a backward model.

Per ARC task, the encoder maps the demonstrations to a context. It reads how often each input colour stands where each
output colour does, which does not depend on the demonstrations' order, and a frozen base's features. The context gives
the preference, a distribution over the colours of outcomes, and enters the forward model's first state. The forward
model goes from input to output in as many steps as the horizon has, the backward model from output to input. Both are
`PercellNets`. Parameters are stacked along T, and networks do not interact.

Shapes: T networks, N grids, K steps, C = hidden size, F features of the base, D demonstrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.learners.arc.canvas import Canvas
from trainables.learners.arc.percell.net import PercellNets, look
from trainables.tasks.arc.grids import COLOURS

PAIRS = COLOURS * COLOURS


class EncoderInput(NamedTuple):
    """The encoder's input: shares of colour pairs (T, 100), and features of unit length (T, F)."""

    pairs: Tensor
    features: Tensor


class Trajectory(NamedTuple):
    """Log-probabilities (T, N, 10, S, S) after each of the K steps, and the cells that count (T, N, S, S)."""

    outcomes: list[Tensor]
    inside: Tensor


class EfeNets(nn.Module):
    """The networks of T tasks. Network t is initialised from `seeds[t]`."""

    def __init__(self, hidden_size: int, features: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.forward_model = PercellNets(hidden_size, seeds)
        self.backward_model = PercellNets(hidden_size, [seed + 1 for seed in seeds])
        drawn = [_encoder(hidden_size, features, seed) for seed in seeds]
        self.encoder = nn.ParameterDict({k: nn.Parameter(torch.stack([d[k] for d in drawn])) for k in drawn[0]})
        preference = torch.zeros(len(seeds), hidden_size + 1, COLOURS)  # uniform at first; the last row is a bias
        self.preference = nn.ParameterDict({"weight": nn.Parameter(preference)})

    def forward(self, cells: Tensor, read: EncoderInput, steps: int) -> Tensor:
        """Return the outcome (T, N, 10, S, S) for inputs (T, N, P, S, S)."""
        return self.go(cells, self.context(read), steps, 1).outcomes[-1]

    def context(self, read: EncoderInput) -> Tensor:
        """Return the context (T, C)."""
        own = self.encoder
        hidden = _each(read.pairs, own["pairs"]) + _each(read.features, own["features"]) + own["bias"]
        return _each(F.relu(hidden), own["out"])

    def preferred(self, context: Tensor) -> Tensor:
        """Return the logits (T, 10) of the colours that an outcome should have."""
        return _each(F.pad(context, (0, 1), value=1.0), self.preference["weight"])

    def go(self, cells: Tensor, context: Tensor, steps: int, kept: int) -> Trajectory:
        """Run the forward model on inputs (T, N, P, S, S); return the last `kept` of the steps."""
        seen, inside = look(cells)
        logits = self.forward_model.run(seen, inside, steps, kept, context)
        return Trajectory([each.log_softmax(2) for each in logits], inside)

    def back(self, outputs: Tensor, steps: int, kept: int) -> Trajectory:
        """Run the backward model on outputs, (T, N, S, S) cells or (T, N, 10, S, S) probabilities."""
        seen, inside = as_seen(outputs, self.forward_model.embed.shape[1])
        logits = self.backward_model.run(seen, inside, steps, kept)
        return Trajectory([each.log_softmax(2) for each in logits], inside)


def as_seen(outputs: Tensor, inputs: int) -> tuple[Tensor, Tensor]:
    """Encode one plane, of colours or of their probabilities (zeros outside), as `look` does; other planes are zero."""
    if not outputs.is_floating_point():
        outputs = F.one_hot(outputs, COLOURS + 1)[..., :COLOURS].float().movedim(-1, 2)
    first = outputs.movedim(2, -1)
    return F.pad(first, (0, inputs - COLOURS)), first.detach().sum(-1) > 0.5


def encoder_input(canvases: Sequence[Canvas], features: np.ndarray) -> EncoderInput:
    """Return the encoder's input for the canvases' demonstrations; `features` (T, F)."""
    shares = []
    for canvas in canvases:
        counts = np.zeros(PAIRS)
        for planes, target in canvas.demonstrations:
            joint = planes[0].astype(np.int64) * COLOURS + target
            counts += np.bincount(joint.ravel(), minlength=PAIRS) / joint.size
        shares.append(counts / len(canvas.demonstrations))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1)
    return EncoderInput(torch.tensor(np.stack(shares), dtype=torch.float32), torch.tensor(unit, dtype=torch.float32))


def _encoder(size: int, features: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed + 2)
    shapes = {"pairs": (PAIRS, size), "features": (features, size), "out": (size, size)}
    values = {
        name: (torch.rand(shape, generator=generator) * 2 - 1) / max(shape[0], 1) ** 0.5
        for name, shape in shapes.items()
    }
    return {**values, "bias": torch.zeros(size)}


def _each(rows: Tensor, weights: Tensor) -> Tensor:
    """Multiply (T, A) by (T, A, B) for each network, to (T, B)."""
    return torch.bmm(rows.unsqueeze(1), weights).squeeze(1)
