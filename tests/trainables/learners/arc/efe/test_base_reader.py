"""efe with LoRA on the base that its encoder reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.arc_files import write_all_splits
from tests.support.efe_kit import SHORT, built, rule
from tests.support.miniatures import base
from trainables.learners.arc.efe import base_reader
from trainables.learners.arc.efe.base_reader import Reader
from trainables.tasks.arc.task import ArcTask

pytestmark = pytest.mark.usefixtures("own_cache")


def test_lora_on_the_base_learns_and_leaves_the_base_alone(planted):
    """Features move away from the frozen base's, a resumed reader goes on as it was, and the base has its weights."""
    config = replace(SHORT, base_r=2, base_multiplier=10.0, alignment=0.1)
    ours = base("qwen2")
    weights = {name: value.clone() for name, value in ours.model.named_parameters()}
    straight, first, second = (config.build(ours, planted, 0) for _ in range(3))
    batch = next(iter(straight.agent.batches.values()))
    before = batch.encoder_input().features.detach().clone()
    torch.testing.assert_close(before, batch.frozen_input.features, atol=1e-5, rtol=1e-4)  # LoRA begins as nothing
    whole = [straight.round() for _ in range(2)]
    assert (batch.encoder_input().features - before).abs().max() > 1e-4
    half = first.round()
    second.load(first.state())
    assert [half, second.round()] == whole
    assert straight.completions() == second.completions()
    assert all(torch.equal(value, weights[name]) for name, value in ours.model.named_parameters())


def test_the_reader_is_trained_by_probes_alone(tmp_path):
    """Other cells in the last output reach no probe, not even through an adapter that all tasks share."""
    changed = rule()
    changed["train"][-1]["output"][2][0] = 5
    found = []
    for name, content in (("one", rule()), ("two", changed)):
        arc = ArcTask(data=write_all_splits(tmp_path / name, content, search=2))
        learner = built(replace(SHORT, base_r=2, base_multiplier=10.0), arc)
        learner.round()
        found.append(learner.agent.reader.state()["parameters"])
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def kept(reader, tasks):
    """Numbers that wait for the gradient once so many tasks are read, and the gradient itself."""
    rows, numbers = [[[5, 6, 7, 8] * 5] * 3] * tasks, []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: numbers.append(value.numel()) or value, lambda v: v):
        features = reader.features(rows, [True] * tasks)
    (features * torch.arange(features.numel()).view_as(features)).sum().backward()
    gradients = [value.grad.clone() for value in reader.trainable.values()]
    reader.optimizer.zero_grad()
    return sum(numbers), gradients


def test_the_base_is_read_in_parts_that_fit_into_memory(monkeypatch):
    """What is kept does not grow with the tasks, past a few, and the gradient is the same to the last bit."""
    reader = Reader(base("qwen2"), 2, 1e-3, 0)
    whole, expected = kept(reader, 6)
    monkeypatch.setattr(base_reader, "KEPT", 2)
    two, _ = kept(reader, 2)
    six, gradients = kept(reader, 6)
    assert six < 1.05 * two < whole / 2.5
    assert any(value.any() for value in gradients)
    assert all(torch.equal(value, own) for value, own in zip(gradients, expected, strict=True))
    assert not reader.features([[[5, 6]]], [False]).requires_grad
