"""Training of `efe` on several ARC tasks at once, with cross-entropy and the terms of expected free energy.

Every task has a network that learns from all its demonstrations. With a memory, every task also has a *probe*: a second
network for the task without its last demonstration. Nothing of that demonstration reaches the probe, not even through
the choice of lenses. The share of it that the probe solves is the task's success, which decides what is remembered.
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
from trainables.learners.arc.efe.net import EfeNets, EncoderInput, encoder_input
from trainables.learners.arc.percell.batch import NetworkBatch, NetworkSpec
from trainables.tasks.arc.grids import COLOURS, Grid


class Success(NamedTuple):
    """A probe's result on the held-out demonstration: the share of its views solved exactly, and nats per cell."""

    solved: float
    loss: float


class NetworkInput(NamedTuple):
    """The input of one network: a canvas, the base's features of its demonstrations (F,), and their token ids."""

    canvas: Canvas
    features: np.ndarray
    rows: Rows = ()


class Probe(NamedTuple):
    """A task without its last demonstration. That demonstration's input is the canvas's only test, its output
    `target`."""

    task: int
    input: NetworkInput
    target: Grid


class TaskGroup(NamedTuple):
    """Tasks that share a batch: the input of each task's network, the probes of some tasks, and for each task the
    random seed of its order of data."""

    tasks: Sequence[NetworkInput]
    probes: Sequence[Probe]
    seeds: Sequence[int]


class EfeBatch(NetworkBatch):
    """The networks of a group of tasks and of their probes, trained together.

    `begin`: the random seed of the initial weights, equal for all tasks, so that one task's weights fit another.
    `starts`: for each task, initial weights to use instead (without the leading T). `reader`: computes the features
    with a gradient, in place of the frozen base. Where there are probes, only they train the reader, because it must
    not learn from held-out demonstrations; a `warm` batch starts from weights that were trained on all demonstrations,
    so it never trains the reader.
    """

    _config: EfeHyperparameters  # type: ignore[assignment]

    def __init__(
        self,
        group: TaskGroup,
        config: EfeHyperparameters,
        begin: int,
        starts: Sequence[Mapping[str, Tensor]] = (),
        capacity: int = 1,
        reader: Reader | None = None,
        warm: bool = False,
    ) -> None:
        tasks, probes, seeds = group
        inputs = [*tasks, *(probe.input for probe in probes)]
        owners = [*range(len(tasks)), *(probe.task for probe in probes)]
        specs = [NetworkSpec(number, seeds[owner]) for number, owner in enumerate(owners)]
        self._begin, self._width, self._probes, self._tasks = begin, len(inputs[0].features), probes, len(tasks)
        super().__init__([one.canvas for one in inputs], config, specs, capacity)  # type: ignore[arg-type]
        self.answering = self._tasks
        given = [inputs[spec.task] for spec in self.specs]
        read = encoder_input([one.canvas for one in given], np.stack([one.features for one in given]))
        self.frozen_input = EncoderInput(*(part.to(self.device) for part in read))
        self._rows, self.reader = [one.rows for one in given], reader
        self._teaching = [not warm and (spec.task >= self._tasks or not probes) for spec in self.specs]
        self.successes: Tensor | None = None  # (tasks, 10): mean preference of the other solved tasks, or zeros
        self._held_out: dict[tuple[int, int], Success] = {}  # by steps and task
        self.terms: dict[str, float] = {}  # of the last step, mean over networks, before weighting
        for network, owner in enumerate(owners if starts else ()):
            for name, value in self.nets.named_parameters():
                value.data[network] = starts[owner][name].to(self.device)
                self.average[name][network] = value.data[network]

    def _build(self) -> nn.Module:
        return EfeNets(self._config.hidden_size, self._width, [self._begin] * len(self.specs))

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

    def encoder_input(self) -> EncoderInput:
        """Return the encoder's input, with the reader's present features where there is a reader."""
        if self.reader is None:
            return self.frozen_input
        return EncoderInput(self.frozen_input.pairs, self.reader.features(self._rows, self._teaching))

    def _stepped(self) -> None:
        if self.reader is not None:
            self.reader.step()

    def losses(self, cells: Tensor, targets: Tensor) -> list[Tensor]:
        """Return the loss of the outcome, with the weighted terms, and the loss of the preference and backward
        model."""
        config, nets, horizon = self._config, self.nets, self._config.horizon
        assert isinstance(nets, EfeNets)
        source, inside = cells[:, :, 0], targets != OUTSIDE
        read = self.encoder_input()
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
        """Return `successes` for each network (T, 10). Probes get zeros: the mean may reflect the held-out
        demonstration."""
        if self.successes is None:
            return None
        rows = torch.cat([self.successes, self.successes.new_zeros(len(self._probes), COLOURS)])
        return rows[[spec.task for spec in self.specs]].to(self.device)

    def _logits(self, weights: dict[str, Tensor], network: int, cells: Tensor) -> Tensor:
        own = {name: value[network : network + 1] for name, value in weights.items()}
        mine = EncoderInput(*(part[network : network + 1] for part in self.encoder_input()))
        return torch.func.functional_call(self.nets, own, (cells, mine, self._config.horizon))

    def value(self, task: int) -> dict[str, Tensor]:
        """Return the averaged weights of a task's network, by parameter, without the leading T."""
        return {name: value[task] for name, value in self.average.items()}

    @torch.no_grad()
    def preference(self, task: int) -> Tensor:
        """Return the task's preferred distribution over colours, (10,) probabilities."""
        assert isinstance(self.nets, EfeNets)
        return self.nets.preferred(self.nets.context(self.encoder_input())).softmax(1)[task].cpu()

    def success(self, task: int) -> Success | None:
        """Return the probe's result on the held-out demonstration; None for a task without a probe."""
        for number, probe in enumerate(self._probes, self._tasks):
            if probe.task == task:
                if (self.steps, task) not in self._held_out:
                    self._held_out[self.steps, task] = self._judge(number, probe)
                return self._held_out[self.steps, task]
        return None

    def _judge(self, network: int, probe: Probe) -> Success:
        (planes,) = probe.input.canvas.tests
        if planes.shape[1:] != probe.target.shape:
            return Success(0.0, math.inf)
        predicted = self.log_probabilities(network, planes, self.average)  # (V, 10, h, w), turned back
        if not np.isfinite(predicted).all():
            return Success(0.0, math.inf)
        right = (predicted.argmax(1) == probe.target).all(axis=(1, 2))
        nats = -np.take_along_axis(predicted.mean(0), probe.target[None].astype(np.int64), 0).mean()
        return Success(float(right.mean()), float(nats))
