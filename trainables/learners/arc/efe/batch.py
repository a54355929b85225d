"""Training of `efe` on several ARC tasks at once: cross-entropy first, and the terms of expected free energy beside it.

Every task has a network that learns from all its demonstrations and, where there is a memory, a *probe*: a network for
the task without its last demonstration, which knows nothing of that one, not even through the choice of lenses. How
much of it the probe solves is the task's success, which decides what is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from trainables.learners.arc.canvas import OUTSIDE, Canvas
from trainables.learners.arc.efe import loss_terms
from trainables.learners.arc.efe.base_reader import Reader, Rows
from trainables.learners.arc.efe.hyperparameters import EfeHyperparameters
from trainables.learners.arc.efe.net import EfeNets, Told, told
from trainables.learners.arc.percell.batch import Batch, Slot
from trainables.tasks.arc.grids import COLOURS, Grid


class Success(NamedTuple):
    """Of a demonstration that was held out: the share of its views solved exactly, and nats per cell."""

    solved: float
    loss: float


class Sight(NamedTuple):
    """What one network is given: a canvas, the base's features of its demonstrations (F,), and their token ids."""

    canvas: Canvas
    features: np.ndarray
    rows: Rows = ()


class Probe(NamedTuple):
    """The task without its last demonstration, whose input is this canvas's only test, and whose output is `target`."""

    task: int
    sight: Sight
    target: Grid


class Group(NamedTuple):
    """Tasks that share a batch: what each task's network is given, the probes of some of them, and by task the random
    seed of its order of data."""

    tasks: Sequence[Sight]
    probes: Sequence[Probe]
    seeds: Sequence[int]


class EfeBatch(Batch):
    """The networks of a group of tasks and of their probes, trained together.

    `begin`: the seed of the initial weights, the same for all tasks, so that what one task has learned fits another.
    `starts`: by task, weights to begin with instead (without the leading T). `reader`: reads the features with a
    gradient, in place of the frozen base. Where there are probes, they alone train the reader, as it must not learn
    from the demonstrations that probes are asked; a `warm` batch, which began where whole tasks ended, never trains it.
    """

    _config: EfeHyperparameters  # type: ignore[assignment]

    def __init__(
        self,
        group: Group,
        config: EfeHyperparameters,
        begin: int,
        starts: Sequence[Mapping[str, Tensor]] = (),
        room: int = 1,
        reader: Reader | None = None,
        warm: bool = False,
    ) -> None:
        tasks, probes, seeds = group
        sights = [*tasks, *(probe.sight for probe in probes)]
        owners = [*range(len(tasks)), *(probe.task for probe in probes)]
        slots = [Slot(number, seeds[owner]) for number, owner in enumerate(owners)]
        self._begin, self._width, self._probes, self._tasks = begin, len(sights[0].features), probes, len(tasks)
        super().__init__([sight.canvas for sight in sights], config, slots, room)  # type: ignore[arg-type]
        self.answering = self._tasks
        given = [sights[slot.task] for slot in self.slots]
        read = told([sight.canvas for sight in given], np.stack([sight.features for sight in given]))
        self._frozen = Told(*(part.to(self.device) for part in read))
        self._rows, self._reader = [sight.rows for sight in given], reader
        self._teaching = [not warm and (slot.task >= self._tasks or not probes) for slot in self.slots]
        self.successes: Tensor | None = None  # (tasks, 10): what other solved problems preferred, or zeros
        self._held_out: dict[tuple[int, int], Success] = {}  # by steps and task
        self.terms: dict[str, float] = {}  # of the last step, mean over networks, before weighting
        for slot, owner in enumerate(owners if starts else ()):
            for name, value in self.nets.named_parameters():
                value.data[slot] = starts[owner][name].to(self.device)
                self.average[name][slot] = value.data[slot]

    def _build(self) -> nn.Module:
        return EfeNets(self._config.hidden_size, self._width, [self._begin] * len(self.slots))

    def _groups(self) -> Any:
        config, nets = self._config, self.nets
        multipliers = {
            "forward_model": 1.0,
            "backward_model": config.backward_multiplier,
            "encoder": config.encoder_multiplier,
            "preference": config.preference_multiplier,
        }
        return [
            {"params": list(getattr(nets, name).parameters()), "lr": config.learning_rate * multiplier}
            for name, multiplier in multipliers.items()
        ]

    def _told(self) -> Told:
        """What the encoder reads now."""
        if self._reader is None:
            return self._frozen
        return Told(self._frozen.pairs, self._reader.features(self._rows, self._teaching))

    def _stepped(self) -> None:
        if self._reader is not None:
            self._reader.step()

    def _losses(self, cells: Tensor, targets: Tensor) -> list[Tensor]:
        """Cross-entropy of the outcome with the weighted terms; and how the preference and the way back are learned."""
        config, nets, horizon = self._config, self.nets, self._config.horizon
        assert isinstance(nets, EfeNets)
        source, inside = cells[:, :, 0], targets != OUTSIDE
        read = self._told()
        context = nets.context(read)
        preference = nets.preferred(context.detach())
        whole = bool(config.step or config.bidirectional)
        forward = nets.go(cells, context, horizon, horizon if whole else 1).outcomes
        outcome = forward[-1]
        loss = loss_terms.cross_entropy(outcome, targets, inside)
        learned = loss_terms.preference_fit(preference, targets, inside)
        terms: dict[str, Tensor] = {}
        if config.risk:
            terms["risk"] = loss_terms.risk(outcome, preference, inside)
        if config.ambiguity:
            terms["ambiguity"] = loss_terms.ambiguity(outcome, inside)
        if config.step:
            terms["step"] = loss_terms.step(forward, inside)
        if config.anchor:
            terms["anchor"] = loss_terms.anchor(preference, self._anchors())
        if config.alignment:
            reading = torch.bmm(nets.encoder["features"], context.unsqueeze(2)).squeeze(2)  # (T, F)
            terms["alignment"] = loss_terms.alignment(reading, read.features)
        if config.bidirectional:
            backward = nets.back(targets, horizon, horizon).outcomes
            learned = learned + loss_terms.cross_entropy(backward[-1], source, inside)
            terms["bidirectional"] = loss_terms.bidirectional(forward, backward, inside)
        if config.reversibility:
            own = torch.where(inside.unsqueeze(2), outcome.exp(), 0)
            terms["reversibility"] = loss_terms.reversibility(nets.back(own, horizon, 1).outcomes[-1], source, inside)
        self.terms = {name: float(value.detach().mean()) for name, value in terms.items()}
        return [loss + sum(getattr(config, name) * value for name, value in terms.items()), learned]

    def _anchors(self) -> Tensor | None:
        """(T, 10). Zeros for probes: what others prefer they may have from the very demonstration that is held out."""
        if self.successes is None:
            return None
        rows = torch.cat([self.successes, self.successes.new_zeros(len(self._probes), COLOURS)])
        return rows[[slot.task for slot in self.slots]].to(self.device)

    def _say(self, weights: dict[str, Tensor], slot: int, cells: Tensor) -> Tensor:
        own = {name: value[slot : slot + 1] for name, value in weights.items()}
        mine = Told(*(part[slot : slot + 1] for part in self._told()))
        return torch.func.functional_call(self.nets, own, (cells, mine, self._config.horizon))

    def value(self, task: int) -> dict[str, Tensor]:
        """The averaged weights of a task's network, by parameter, without T."""
        return {name: value[task] for name, value in self.average.items()}

    @torch.no_grad()
    def preference(self, task: int) -> Tensor:
        """(10,) probabilities."""
        assert isinstance(self.nets, EfeNets)
        return self.nets.preferred(self.nets.context(self._told())).softmax(1)[task].cpu()

    def success(self, task: int) -> Success | None:
        """How well the probe does what it has not seen; None for a task without one."""
        for number, probe in enumerate(self._probes, self._tasks):
            if probe.task == task:
                if (self.steps, task) not in self._held_out:
                    self._held_out[self.steps, task] = self._judge(number, probe)
                return self._held_out[self.steps, task]
        return None

    def _judge(self, slot: int, probe: Probe) -> Success:
        (planes,) = probe.sight.canvas.tests
        if planes.shape[1:] != probe.target.shape:
            return Success(0.0, math.inf)
        said = self.log_probabilities(slot, planes, self.average)  # (V, 10, h, w), upright
        if not np.isfinite(said).all():
            return Success(0.0, math.inf)
        right = (said.argmax(1) == probe.target).all(axis=(1, 2))
        nats = -np.take_along_axis(said.mean(0), probe.target[None].astype(np.int64), 0).mean()
        return Success(float(right.mean()), float(nats))
