"""percell: it learns a rule from demonstrations alone, never sees a test output, and resumes bit for bit."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.arc_files import ids, recolour, task, write, write_all_splits
from tests.support.percell_kit import QUICK, SHORT
from trainables.core import Learner
from trainables.learners.arc.canvas import canvas
from trainables.learners.arc.percell.batch import NetworkBatch, NetworkSpec
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.arc.percell.net import PercellNets, parameter_count
from trainables.tasks.arc.task import ArcTask, puzzle


@pytest.fixture
def planted(tmp_path: Path) -> ArcTask:
    return ArcTask(data=write_all_splits(tmp_path, recolour(), search=2))


def run(learner: Learner, rounds: int) -> list[float]:
    return [learner.round().loss for _ in range(rounds)]


def test_solves_a_planted_rule_and_beats_copy(planted):
    learner = QUICK.build(None, planted, seed=0)
    before = learner.evaluate()
    losses = run(learner, 2)
    after = learner.evaluate()
    assert losses[-1] < losses[0] / 2
    assert planted.baselines()["copy"] == before.score == 0.0
    assert after.score == 1.0
    assert [after.metrics[name] for name in ("score.same_size", "pass_at_1", "cell_accuracy")] == [1.0] * 3
    assert after.items == [1.0, 1.0]
    assert learner.evaluate("test").score == 1.0  # fresh networks, as many steps
    assert isinstance(learner, Learner)


def test_resumes_bit_for_bit(planted):
    straight, first, second = (SHORT.build(None, planted, seed=3) for _ in range(3))
    whole = run(straight, 3)
    half = run(first, 1)
    state = first.state()
    run(first, 1)  # a state is a copy: what the first learner does now must not show in it
    second.load(state)
    assert half + run(second, 2) == whole
    for keys, batch in straight.batches.items():
        for name, value in batch.average.items():
            assert torch.equal(value, second.batches[keys].average[name])
    assert straight.completions() == second.completions()
    assert straight.completions("test") == second.completions("test")


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_task_does_not_depend_on_its_neighbours(tmp_path, number):
    """To the last bit, whichever and however many tasks share its batch, alone included; also with several seeds."""
    for seeds in (1, 2):
        quick = replace(SHORT, seeds=seeds)
        full = quick.build(None, ArcTask(data=write_all_splits(tmp_path / "full", recolour(), search=6)), 0)
        some = quick.build(None, ArcTask(data=write_all_splits(tmp_path / "some", recolour(), search=number)), 0)
        for learner in (full, some):
            learner.round()
        (whole,), (part,) = full.batches.values(), some.batches.values()
        for name, value in part.average.items():
            place = [next(iter(full.batches)).index(key) for key in next(iter(some.batches))]
            specs = [seeds * p + s for p in place for s in range(seeds)]
            assert torch.equal(value[: len(specs)], whole.average[name][specs]), name


@pytest.mark.parametrize(("hidden_size", "expected"), [(1, 85), (16, 4480), (48, 33408)])
def test_parameter_count(hidden_size, expected, planted):
    """13 C^2 + 72 C, by hand: 13 + 72; 3,328 + 1,152; 29,952 + 3,456."""
    assert parameter_count(hidden_size) == expected
    assert sum(value.numel() for value in PercellNets(hidden_size, [0]).parameters()) == expected
    learner = replace(QUICK, hidden_size=hidden_size, steps_per_round=1).build(None, planted, 0)
    assert learner.round().trainable_parameters == expected


def test_permuted_colours_still_solve_it(planted):
    learner = replace(QUICK, permute_colours=True).build(None, planted, 0)
    run(learner, 2)
    assert learner.evaluate().score == 1.0


def test_tasks_of_another_size_are_answered_where_a_lens_fits(tmp_path):
    """The left half, its 1s as 2s: part of the grid, then a rule. And a task whose sizes follow no rule."""
    inputs = [[[0, 1, 5, 5], [1, 0, 5, 5]], [[1, 1, 5, 5], [0, 3, 5, 5]], [[3, 1, 5, 5], [0, 0, 5, 5]]]
    halves = task(
        *[
            [(rows, [[2 if c == 1 else c for c in row[:2]] for row in rows]) for rows in part]
            for part in (inputs[:2], inputs[2:])
        ]
    )
    odd = task([([[1]], [[1, 1]]), ([[1]], [[1, 1, 1]])], [([[2]], [[2, 2]])])
    same, half, other = ids("search", 3)
    arc = ArcTask(data=write(tmp_path / "mixed", {same: recolour(), half: halves, other: odd}), same_size=False)
    learner = QUICK.build(None, arc, 0)
    run(learner, 3)
    completions = dict(zip([example.key for example in arc.search()], learner.completions(), strict=True))
    assert completions[other] == '[{"attempt_1": [], "attempt_2": []}]'
    metrics = learner.evaluate().metrics
    assert (metrics["score.same_size"], metrics["score.other_size"], metrics["unparsed"]) == (1.0, 0.5, 0.0)
    with pytest.raises(ValueError, match="percell cannot answer; give other tasks, or same_size=True"):
        QUICK.build(None, ArcTask(data=write(tmp_path / "other", {other: odd}), same_size=False), 0)


def test_weights_that_blow_up_in_the_last_step_are_no_answer(planted):
    """The loss was finite before that step; NaN would read as a black grid."""
    learner = replace(QUICK, learning_rate=1e30, steps_per_round=1).build(None, planted, 0)
    assert math.isfinite(learner.round().loss)
    assert set(learner.completions()) == {'[{"attempt_1": [], "attempt_2": []}]'}


def test_a_state_made_in_other_groups_goes_on(planted, monkeypatch):
    """A GPU takes more tasks together than a CPU; a clone's learning rate is its own, not the state's."""
    from trainables.learners.arc import grouping

    whole = SHORT.build(None, planted, 0)
    whole.round()
    monkeypatch.setitem(grouping.CELLS_PER_BATCH, "cpu", 1)
    other = replace(SHORT, learning_rate=1e-4).build(None, planted, 0)
    assert len(other.batches) == 2 != len(whole.batches)
    other.load(whole.state())
    assert other.completions() == whole.completions()
    assert {group["lr"] for batch in other.batches.values() for group in batch.optimizer.param_groups} == {1e-4}
    assert math.isfinite(other.round().loss)


def test_a_loss_that_diverges_is_reported(planted):
    loss = replace(QUICK, learning_rate=1e30, steps_per_round=6).build(None, planted, 0).round().loss
    assert not math.isfinite(loss)


@pytest.mark.parametrize("search", [1, 2])
def test_saved_weights_read_back(tmp_path, search):
    """Of one task alone, too, which has an idle twin."""
    planted = ArcTask(data=write_all_splits(tmp_path / "tasks", recolour(), search=search))
    learner = replace(QUICK, steps_per_round=1).build(None, planted, 0)
    learner.round()
    learner.save(str(tmp_path))
    saved = load_file(tmp_path / "percell.safetensors")
    keys = [example.key for example in planted.search()]
    assert sum(value.numel() for value in saved.values()) == len(keys) * parameter_count(16)
    ((batch_keys, batch),) = learner.batches.items()
    assert torch.equal(saved[f"{keys[-1]}.head"][0], batch.average["head"][batch_keys.index(keys[-1])])


def test_a_checkpoint_of_other_tasks_is_refused(planted):
    state = QUICK.build(None, replace(planted, limit_search=1), 0).state()
    with pytest.raises(ValueError, match="this checkpoint holds other ARC tasks; resume with the task"):
        QUICK.build(None, planted, 0).load(state)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hidden_size", 0, "hidden_size is 0; it must be at least 1"),
        ("learning_rate", math.nan, "learning_rate is nan; it must be a finite number >= 0"),
        ("supervised_steps", 9, "supervised_steps is 9, but recurrent_steps is 8; supervise at most that many"),
        ("ema_decay", 1.0, r"ema_decay is 1.0; it must lie in \[0, 1\)"),
        ("max_grad_norm", 0.0, "max_grad_norm is 0.0; it must be above 0"),
    ],
)
def test_bad_configurations(field, value, message):
    with pytest.raises(ValueError, match=message):
        PercellConfig(**{field: value})


def test_attempts_differ_where_the_views_disagree(planted):
    """An untrained network's views rarely agree, so the second attempt is not wasted on the first's grid."""
    config = replace(QUICK, hidden_size=32, recurrent_steps=6)
    batch = NetworkBatch([canvas(puzzle(planted.search()[0]))], config, [NetworkSpec(0, 1)])
    batch.train(6)
    (((first, second),),) = batch.attempts()
    assert first.shape == second.shape == (3, 3)
    assert first.dtype == second.dtype == np.int8
    assert not np.array_equal(first, second)


def test_seeds_vote_together(planted):
    """Three networks of a task answer with the mean of their log-probabilities, worked out here one by one."""
    config = replace(QUICK, seeds=3)
    seen = canvas(puzzle(planted.search()[0]))
    batch = NetworkBatch([seen], config, [NetworkSpec(0, seed) for seed in (5, 6, 7)])
    batch.train(4)
    singles = [NetworkBatch([seen], config, [NetworkSpec(0, seed)], capacity=2) for seed in (5, 6, 7)]
    total = 0
    for single in singles:
        single.train(4)
        total = total + single.log_probabilities(0, seen.tests[0], single.average).mean(0)
    assert np.array_equal(batch.attempts()[0][0][0], total.argmax(0))


def test_votes_say_how_many_of_them_agree_with_the_first_attempt(planted):
    """Counted by hand: each view by averaged and by last weights, and the mean of the last ones."""
    config = replace(QUICK, hidden_size=32, recurrent_steps=6)
    seen = canvas(puzzle(planted.search()[0]))
    batch = NetworkBatch([seen], config, [NetworkSpec(0, 1)])
    batch.train(6)
    (((first, second, agreement, source),),) = batch.votes()
    last = {name: value.detach() for name, value in batch.nets.named_parameters()}
    views = [batch.log_probabilities(0, seen.tests[0], weights) for weights in (batch.average, last)]
    ballots = [*(view.argmax(0) for both in views for view in both), views[1].mean(0).argmax(0)]
    assert np.array_equal(first, views[0].mean(0).argmax(0))
    assert agreement == sum(np.array_equal(first, ballot) for ballot in ballots) / 17 < 1
    assert sum(np.array_equal(second, ballot) for ballot in ballots) >= 1
    assert source == ""


def test_a_lens_that_explains_every_demonstration_answers_first(tmp_path):
    """A mirrored grid needs no training."""
    rows = [[[1, 2], [3, 4]], [[5, 0], [0, 6]], [[7, 8], [9, 1]]]
    pairs = [(grid, [row[::-1] for row in grid]) for grid in rows]
    arc = ArcTask(data=write_all_splits(tmp_path, task(pairs[:2], pairs[2:])))
    learner = QUICK.build(None, arc, 0)
    assert json.loads(learner.completions()[0])[0]["attempt_1"] == [[8, 7], [1, 9]]
    assert learner.evaluate().metrics["pass_at_1"] == 1.0
