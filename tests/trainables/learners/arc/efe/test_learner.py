"""efe: it learns a planted rule, its probes never see what is held out, and its memory starts others where it says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.arc_files import ids, task, write, write_all_splits
from tests.support.efe_kit import ALL, QUICK, SHORT, built, rule
from trainables.core import Learner
from trainables.learners.arc import grouping
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.tasks.arc.task import ArcTask

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("terms", [{}, ALL], ids=["cross-entropy alone", "every term"])
def test_solves_a_planted_rule(planted, terms):
    learner = built(replace(QUICK, **terms), planted)
    assert isinstance(learner, Learner)
    assert learner.evaluate().score == 0.0
    first, second = learner.round(), learner.round()
    assert second.loss < first.loss / 2
    evaluation = learner.evaluate()
    assert evaluation.score == evaluation.metrics["pass_at_1"] == 1.0
    assert learner.evaluate("test").score == 1.0
    found = {name: value for name, value in second.metrics.items() if name.startswith("term.")}
    assert {name.removeprefix("term.") for name in found} == set(terms)
    assert all(math.isfinite(value) and value >= -1e-6 for value in found.values())


def test_noise_in_test_outputs_changes_no_cell(tmp_path):
    """Features, sizes, memory and networks see demonstrations and test inputs alone."""
    noisy = rule()
    rng = np.random.default_rng(0)
    for pair in noisy["test"]:
        pair["output"] = rng.integers(0, 10, (7, 5)).tolist()  # not even their size is known
    learners = [
        built(
            replace(QUICK, **ALL), ArcTask(data=write_all_splits(tmp_path / name, content, search=2), same_size=False)
        )
        for name, content in (("clean", rule()), ("noisy", noisy))
    ]
    clean, other = ([learner.round() for _ in range(2)] for learner in learners)
    assert clean == other
    assert clean[-1].metrics["memory_writes"] > 0
    for split in ("search", "test"):
        assert learners[0].completions(split) == learners[1].completions(split)
    assert learners[0].evaluate().metrics["cell_accuracy"] != learners[1].evaluate().metrics["cell_accuracy"]


@pytest.mark.parametrize("shared", [{"risk": 0.1, "anchor": 0.5}, {"base_r": 2, "base_multiplier": 10.0}])
def test_a_probe_never_sees_the_demonstration_that_is_held_out(tmp_path, shared):
    """Another cell in the last output of one of two tasks alike, which start and anchor each other or share a base's
    adapter: its probe's weights stay the same to the last bit, the other network's do not."""
    changed = rule()
    changed["train"][-1]["output"][2][0] = 5
    (key, other), (train,), (test,) = ids("search", 2), ids("train", 1), ids("test", 1)
    config = replace(QUICK, steps_per_round=12, success_threshold=0.125, memory_similarity=0.0, **shared)
    agents = []
    for name, content in (("one", rule()), ("two", changed)):
        files = {key: content, other: rule(5, side=6), train: rule(), test: rule()}  # another side: another batch
        learner = built(config, ArcTask(data=write(tmp_path / name, files)), seed=3)
        for _ in range(3):
            learner.round()
        agents.append(learner.agent)
    assert [other in agent.written for agent in agents] == [True, True]
    assert [key in agent.written for agent in agents] == [True, False]  # it is judged by what it has not seen
    one, two = (agent.batches[(key,), False] for agent in agents)
    assert [len(own.demonstrations) for own in one.canvases] == [4, 3]
    assert all(torch.equal(value[1], two.average[name][1]) for name, value in one.average.items())
    assert any(not torch.equal(value[0], two.average[name][0]) for name, value in one.average.items())


def test_the_memory_starts_others_where_solved_problems_ended(planted):
    learner = built(replace(QUICK, success_threshold=1.0), planted)
    assert any(learner.round().metrics["memory_entries"] == 2 for _ in range(6))
    again = learner.round()
    assert again.metrics["memory_entries"] == 2 < again.metrics["memory_writes"]  # written anew, but not held twice
    agent = learner.agent
    entries = {entry["name"]: entry for entry in agent.memory.state()["entries"]}
    first = replace(planted, limit_search=1)
    late = built(replace(QUICK, success_threshold=1.0), first, seed=7).agent
    (key,) = (example.key for example in first.search())
    late.memory.load(agent.memory.state())
    late.recall()
    (other,) = set(entries) - {key}  # a task never finds itself
    warm = late.batches[(key,), True]
    for name, value in warm.nets.named_parameters():
        for slot in range(2):
            assert torch.equal(value[slot], entries[other]["value"][name]), name
            assert torch.equal(warm.average[name][slot], entries[other]["value"][name]), name
    trained = late.round()
    assert trained.metrics["memory_retrievals"] == agent.memory.retrievals + 1
    late.recall()
    assert len(late.batches) == 2  # asked once, not again


def test_useful_retrievals_are_those_that_solve_what_was_not_solved(planted):
    """A memory that holds the solution: a few steps from there solve the held-out demonstration, from the seed not."""
    teacher = built(QUICK, planted)
    for _ in range(3):
        teacher.round()
    assert teacher.agent.memory.writes >= 2
    student = built(replace(QUICK, steps_per_round=2), planted)
    student.agent.memory.load(teacher.agent.memory.state())
    trained = student.round()
    assert trained.metrics["memory_useful"] == 2
    scores = student.evaluate()
    assert scores.score > scores.metrics["score_without_memory"] == 0.0


def test_without_a_memory_there_are_no_probes_and_no_neighbours(planted):
    config = replace(SHORT, memory_capacity=0)
    both, alone = built(config, planted), built(config, replace(planted, limit_search=1))
    assert not any(name.startswith("memory") for name in both.round().metrics)
    alone.round()
    (batch,) = both.agent.batches.values()
    assert [len(own.demonstrations) for own in batch.canvases] == [4, 4]
    assert both.completions()[0] == alone.completions()[0]


def test_a_network_where_no_other_fits_trains_no_twin(tmp_path, monkeypatch):
    """15x15 cells are more than half of the capacity, of 400: a twin would cost as much again for nothing."""
    monkeypatch.setattr(grouping, "CELLS_PER_BATCH", dict.fromkeys(("cpu", "cuda"), 400))
    files = {key: rule(side=side) for key, side in zip(ids("search", 2), (4, 15), strict=True)}
    arc = ArcTask(data=write(tmp_path, files), max_side=15)
    for capacity, networks in ((0, [2, 1]), (8, [2, 2])):  # one and its twin, one; and each with its probe
        learner = built(replace(SHORT, memory_capacity=capacity), arc)
        assert [len(batch.specs) for batch in learner.agent.batches.values()] == networks


def test_resumes_bit_for_bit_with_a_warm_network(tmp_path):
    """An easy task is remembered, a noisy one starts from it; the state is taken while that network trains."""
    rng = np.random.default_rng(1)
    noise = [(rng.integers(0, 10, (4, 4)).tolist(), rng.integers(0, 10, (4, 4)).tolist()) for _ in range(4)]
    tasks = {"search": [rule(), task(noise[:3], noise[3:])], "train": [rule()], "test": [rule()]}
    files = {key: own for split, contents in tasks.items() for key, own in zip(ids(split, 2), contents, strict=False)}
    arc = ArcTask(data=write(tmp_path / "tasks", files))
    config = replace(QUICK, steps_per_round=12, success_threshold=0.125, memory_similarity=0.0, **ALL)
    straight, first, second = (built(config, arc, seed=3) for _ in range(3))
    whole = [straight.round() for _ in range(3)]
    half = [first.round() for _ in range(2)]
    assert any(warm for _, warm in first.agent.batches)
    state = first.state()
    first.round()  # a state is a copy
    second.round()  # and may be loaded into what has already trained
    second.load(state)
    assert [*half, second.round()] == whole
    assert straight.completions() == second.completions()
    assert straight.completions("test") == second.completions("test")


def test_what_diverges_answers_nothing_and_is_not_remembered(tmp_path):
    """Weights that blow up in a round's last step: NaN would read as black, which is this task's answer."""
    black = [([[number, 0], [0, number]], [[0, 0], [0, 0]]) for number in range(1, 5)]
    arc = ArcTask(data=write_all_splits(tmp_path, task(black[:3], black[3:])))
    learner = built(replace(QUICK, learning_rate=1e30, steps_per_round=1), arc)
    trained = learner.round()
    assert math.isfinite(trained.loss)  # it is that of before the step
    assert trained.metrics["memory_writes"] == 0
    assert learner.completions() == ['[{"attempt_1": [], "attempt_2": []}]']


def test_a_task_never_gets_back_what_others_made_of_it(planted):
    """What a task once wrote may live on in others, and has seen what its probe must not: it is not asked again."""
    learner = built(replace(QUICK, memory_similarity=0.0, success_threshold=0.125), planted)
    assert any(learner.round() and len(learner.agent.written) == 2 for _ in range(8))
    learner.agent.recall()
    assert not any(warm for _, warm in learner.agent.batches)


def test_a_checkpoint_of_other_tasks_is_refused(planted):
    state = built(SHORT, replace(planted, limit_search=1)).state()
    with pytest.raises(ValueError, match="this checkpoint holds other ARC tasks"):
        built(SHORT, planted).load(state)


def test_saved_weights_are_those_that_answer(planted, tmp_path):
    learner = built(SHORT, planted)
    learner.round()
    learner.save(str(tmp_path))
    saved = load_file(tmp_path / "efe.safetensors")
    key = planted.search()[0].key
    ((keys, _), batch), *_ = learner.agent.batches.items()
    ours = batch.value(keys.index(key))
    assert {name for name in saved if name.startswith(key)} == {f"{key}.{name}" for name in ours}
    assert torch.equal(saved[f"{key}.forward_model.head"], ours["forward_model.head"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 0}, "horizon is 0; it must be at least 1"),
        ({"risk": -1.0}, "risk is -1.0; it must be a finite number >= 0"),
        ({"success_threshold": 0.0}, "success_threshold is 0.0; a share above 0"),
        ({"alignment": 0.1, "features": False}, "alignment is 0.1, and features are off; turn features on"),
        ({"base_r": 4, "features": False}, "base_r is 4, and features are off; turn features on"),
        ({"memory_capacity": -1}, "memory_capacity is -1; it must be at least 0"),
    ],
)
def test_bad_configurations(changes, message):
    with pytest.raises(ValueError, match=message):
        EfeConfig(**changes)


def test_a_split_that_no_lens_fits_gets_no_answers(tmp_path):
    """Sizes without a rule; for those that it is asked first, that is an error instead."""
    grids = [[[0, 1], [1, 0]]] * 3
    odd = task(list(zip(grids, [[[1] * 5], [[2]] * 7, [[3] * 2] * 3], strict=True)), [(grids[0], [[4] * 9])])
    tasks = {ids("search", 1)[0]: rule(), ids("test", 1)[0]: odd}
    learner = built(SHORT, ArcTask(data=write(tmp_path / "some", tasks), same_size=False))
    learner.round()
    assert learner.evaluate("test").items == [0.0]
    none = ArcTask(data=write(tmp_path / "none", {ids("search", 1)[0]: odd}), same_size=False)
    for config in (SHORT, PercellConfig()):
        with pytest.raises(
            ValueError, match=f"no lens fits the demonstrations of any task .* {config.name} cannot answer"
        ):
            built(config, none)
