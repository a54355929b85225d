"""lora_ttt: each ARC task trains an adapter of its own, on rows without any test output; alone or packed, the same."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.arc_files import ids, task, write
from tests.support.grids_kit import QUICK, SHORT, arc, grid_base, painted, task_learner
from trainables.core import Learner
from trainables.learners.arc.lora_ttt.learner import LoraTttConfig
from trainables.models.loading import Base
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.states import unpack
from trainables.tasks.arc.task import ArcTask, puzzle
from trainables.training.dialogue import run_queries


@pytest.fixture(scope="module")
def base() -> Base:
    return grid_base()


def run(learner: Learner, rounds: int) -> list[float]:
    return [learner.round().loss for _ in range(rounds)]


def test_solves_planted_rules_each_with_its_own_adapter(base, tmp_path):
    planted = arc(tmp_path)
    learner = QUICK.build(base, planted, seed=0)
    before = learner.evaluate()
    first, last = run(learner, 2)
    after = learner.evaluate()
    assert isinstance(learner, Learner)
    assert last < first / 1.5
    assert planted.baselines()["copy"] == before.score == before.metrics["too_long"] == 0.0
    assert after.score == after.metrics["score.same_size"] == after.metrics["cell_accuracy"] == 1.0
    assert after.items == [1.0, 1.0, 1.0]  # three colours: one adapter could not
    assert learner.evaluate("test").score == 1.0  # a fresh adapter, as many steps
    assert learner.evaluate() == after


def test_log_probabilities_of_all_views_decide_against_votes(base, tmp_path):
    """Before training the adapter is nothing: the base itself says which of two candidates is likelier in all views."""
    planted = arc(tmp_path, search=1)
    shown = puzzle(planted.search()[0])
    own, voting = (task_learner(base, shown, limit=60, selection=selection) for selection in ("logprob", "vote"))
    totals = {}
    for colour in (5, 6):
        total = 0.0
        for row in own.candidate_rows(0, np.full((2, 2), colour, np.int8)):
            logits = base.model(torch.tensor([row.tokens])).logits[0].log_softmax(-1)
            total += sum(logits[i - 1, token].item() for i, token in enumerate(row.tokens) if row.labels[i])
        totals[total] = np.full((2, 2), colour, np.int8)
    better, worse = totals[max(totals)], totals[min(totals)]
    host = Host(base, Shape(1, 4, max_rank=0, max_prompt=0))

    def read(ask):
        return [row.tolist() for row in host.logprobs(ask.rows)]

    assert len(own.views) == 3
    attempts = run_queries(own.chosen(0, [worse, better, worse]), read)
    assert [grid.tolist() for grid in attempts] == [better.tolist(), worse.tolist()]
    attempts = run_queries(voting.chosen(0, [worse, better, worse]), read)
    assert [grid.tolist() for grid in attempts] == [worse.tolist(), better.tolist()]


def test_noise_in_test_outputs_changes_no_completion(base, tmp_path):
    """The leak test, with noise of another size: neither what is trained nor how long an answer may be can differ."""
    noise = np.random.default_rng(0).integers(0, 10, (5, 7)).tolist()
    tasks = [arc(tmp_path / "clean"), arc(tmp_path / "noisy", outputs=noise)]
    learners = [replace(QUICK, steps_per_round=20, selection="logprob").build(base, each, seed=0) for each in tasks]
    assert run(learners[0], 2) == run(learners[1], 2)
    results = [[learner.evaluate(split) for split in ("search", "test")] for learner in learners]
    for clean, noisy in zip(*results, strict=True):
        assert clean.completions == noisy.completions
        assert clean.metrics["cell_accuracy"] > noisy.metrics["cell_accuracy"]  # the noise reached the scorer


def test_resumes_bit_for_bit_with_more_tasks_than_seats(base, tmp_path):
    config = replace(SHORT, supervised_steps=2, lora_dropout=0.1)
    straight, first, second = (config.build(base, arc(tmp_path / "data"), seed=3) for _ in range(3))
    untouched = second.state()
    whole = run(straight, 3)
    half = run(first, 1)
    (tmp_path / "state.pt").write_bytes(first.state())
    run(first, 1)  # a state is a copy: what the first learner does now must not show in it
    run(second, 2)  # and all of what the second was is gone
    second.load((tmp_path / "state.pt").read_bytes())
    assert half + run(second, 2) == whole
    assert straight.evaluate() == second.evaluate()
    assert straight.evaluate("test") == second.evaluate("test")
    first.load(untouched)
    assert run(first, 3) == whole
    folders = [tmp_path / "straight", tmp_path / "second"]
    for learner, folder in zip((straight, second), folders, strict=True):
        learner.save(str(folder))
    saved = [{p.parent.name: p.read_bytes() for p in folder.rglob("*.safetensors")} for folder in folders]
    assert sorted(saved[0]) == sorted(ids("search", 3))
    assert saved[0] == saved[1]
    assert all(value.any() for path in folders[0].rglob("*.safetensors") for value in load_file(path).values())


@pytest.mark.parametrize("seats", [1, 3])
def test_a_task_does_not_depend_on_its_neighbours(base, tmp_path, seats):
    """Three tasks, whose rows differ in length; each by itself, in a host of the same number of seats."""
    one, two, three = ids("search", 3)
    wide = {two: task([([[1] * 5] * 3, [[2] * 5] * 3)] * 2, [([[3] * 5] * 3, [[2] * 5] * 3)])}
    tasks = {one: painted(2), **wide, three: painted(4)}
    test = {ids("test", 1)[0]: painted(7)}
    config = replace(QUICK, steps_per_round=10, tasks_at_once=seats, max_length=200, selection="logprob")
    arc = ArcTask(data=write(tmp_path / "all", tasks | test))
    together = config.build(base, arc, seed=0)
    losses = run(together, 2)
    said = dict(zip([e.key for e in arc.search()], together.evaluate().completions, strict=True))
    alone_losses = []
    for key in [example.key for example in arc.search()]:
        alone = config.build(base, ArcTask(data=write(tmp_path / key, {key: tasks[key]} | test)), seed=0)
        alone_losses.append(run(alone, 2))
        assert alone.evaluate().completions == [said[key]]
    assert losses == [float(np.mean(own)) for own in zip(*alone_losses, strict=True)]
    assert len(set(said.values())) > 1


def shared(config: LoraTttConfig, base: Base, planted: ArcTask) -> dict[str, Any]:
    learner = config.build(base, planted, seed=0)
    run(learner, 1)
    return unpack(learner.state())


def test_the_shared_stage_sees_the_train_split_alone_and_is_where_tasks_start(base, tmp_path):
    config = replace(SHORT, supervised_steps=30)
    states = [
        shared(config, base, arc(tmp_path / "some")),
        shared(config, base, arc(tmp_path / "less", search=1, outputs=[[1]])),
        shared(config, base, arc(tmp_path / "others", more={ids("train", 1)[0]: painted(5)})),
    ]
    values = [state["shared"] for state in states]
    assert all(torch.equal(values[0][name], values[1][name]) for name in values[0])
    assert not all(torch.equal(values[0][name], values[2][name]) for name in values[0])
    task_state = unpack(next(iter(states[0]["tasks"].values())))
    assert task_state["step"] == 2  # the stage's steps and moments are not the task's
    moved = {name: (task_state["parameters"][name] - value).abs().max() for name, value in values[0].items()}
    assert max(moved.values()) < 3 * config.learning_rate  # two steps away from where the stage ended
    assert max(value.abs().max() for name, value in values[0].items() if name.endswith("B")) > 0.05
    plain, staged = SHORT.build(base, arc(tmp_path / "some"), 0), config.build(base, arc(tmp_path / "some"), 0)
    assert staged.evaluate().completions == plain.evaluate().completions  # untouched before its first round
    first = staged.round()
    assert math.isfinite(first.metrics["supervised_loss"])
    assert first.loss < plain.round().loss
    assert "supervised_loss" not in staged.round().metrics


def test_a_task_that_is_too_long_gets_no_answer_and_is_counted(base, tmp_path):
    large, small = ids("search", 2)
    square = [[1] * 6] * 6
    data = {large: task([(square, square)] * 2, [(square, square)]), ids("test", 1)[0]: painted(7)}
    mixed = ArcTask(data=write(tmp_path / "mixed", data | {small: painted(2)}))
    learner = QUICK.build(base, mixed, seed=0)
    assert learner.round().metrics["too_long"] == 0.5
    evaluation = learner.evaluate()
    said = dict(zip([example.key for example in mixed.search()], evaluation.completions, strict=True))
    assert said[large] == '[{"attempt_1": [], "attempt_2": []}]'
    assert (evaluation.score, evaluation.metrics["too_long"]) == (0.5, 0.5)
    assert learner.evaluate("test").metrics["too_long"] == 0.0
    with pytest.raises(ValueError, match="no task of the search split fits into 60 tokens; raise max_length"):
        QUICK.build(base, ArcTask(data=write(tmp_path / "large", data)), seed=0)


def test_the_limit_of_the_base_counts(tmp_path):
    gpt2 = grid_base("gpt2")
    square = [[1] * 8] * 8
    data = {ids("search", 1)[0]: task([(square, square)] * 2, [(square, square)])}
    with pytest.raises(ValueError, match="fits into 128 tokens"):
        replace(QUICK, max_length=8192).build(gpt2, ArcTask(data=write(tmp_path, data)), seed=0)


def test_a_loss_that_diverges_is_reported(base, tmp_path):
    assert not math.isfinite(replace(SHORT, learning_rate=1e30).build(base, arc(tmp_path), 0).round().loss)


def test_a_checkpoint_of_other_tasks_is_refused(base, tmp_path):
    state = SHORT.build(base, arc(tmp_path / "one", search=1), 0).state()
    with pytest.raises(ValueError, match="this checkpoint holds other ARC tasks; resume with the task"):
        SHORT.build(base, arc(tmp_path / "three"), 0).load(state)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"votes": 0}, "votes is 0; it must be at least 1"),
        ({"r": 0}, "r is 0; a LoRA rank is at least 1"),
        ({"learning_rate": math.nan}, "learning_rate is nan; it must be a finite number >= 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0; it must be above 0"),
        ({"selection": "best"}, "selection is 'best'; choose 'vote' or 'logprob'"),
        (
            {"turns": False, "permute_colours": False, "permute_order": False},
            "votes is 8, but all views of a task are the same; allow turns",
        ),
    ],
)
def test_bad_configurations(fields, message):
    with pytest.raises(ValueError, match=message):
        LoraTttConfig(**fields)
