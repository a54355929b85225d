"""The ensemble: programs answer what they explain, networks are trained for the rest and read what programs make."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sweeps.arc import SWEEP
from sweeps.results.records import reference_name
from tests.support.arc_files import ids, recolour, task, write
from tests.support.percell_kit import QUICK
from trainables.learners.arc.canvas import OUTSIDE, canvas
from trainables.learners.arc.ensemble.learner import EnsembleConfig, held_out, misses_half
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.arc.program_answers import solved
from trainables.tasks.arc.data import load_splits
from trainables.tasks.arc.programs.search import Program
from trainables.tasks.arc.task import ArcTask, Puzzle, puzzle

QUICK_FIELDS = {name: getattr(QUICK, name) for name in ("hidden_size", "recurrent_steps", "steps_per_round")}
CONFIG = EnsembleConfig(**QUICK_FIELDS, learning_rate=5e-3)


def noise(seed: int) -> dict:
    """A task without a rule: no program explains it, and nothing can learn it."""
    grids = np.random.default_rng(seed).integers(0, 10, (8, 3, 3)).tolist()
    pairs = [*zip(grids[::2], grids[1::2], strict=True)]
    return task(pairs[:3], pairs[3:])


@pytest.fixture
def mixed(tmp_path: Path) -> ArcTask:
    """One task of each split that programs explain, and one of the search split that they do not."""
    easy, hard = ids("search", 2)
    files = {key: recolour() for key in (easy, *ids("train", 1), *ids("test", 1))}
    return ArcTask(data=write(tmp_path / "tasks", files | {hard: noise(0)}))


def test_networks_are_trained_only_where_no_program_answers(mixed: ArcTask) -> None:
    learner = CONFIG.build(None, mixed, 0)
    easy, hard = ids("search", 2)
    before = learner.evaluate()
    said = dict(zip([one.key for one in mixed.search()], before.completions, strict=True))
    assert np.shape(json.loads(said[hard])[0]["attempt_1"]) == (3, 3), "lenses and programs' planes have the last word"
    assert before.score == 0.5
    assert (before.metrics["share.programs"], before.metrics["pass_at_1.programs"]) == (0.5, 1.0)
    assert learner.round().loss > 0
    assert [key for keys in learner.batches for key in keys] == [hard]
    after = dict(zip([one.key for one in mixed.search()], learner.completions(), strict=True))
    assert after[easy] == said[easy]
    assert np.shape(json.loads(after[hard])[0]["attempt_1"]) == (3, 3)
    assert learner.evaluate("test").score == 1.0


def test_networks_take_the_second_attempt_where_programs_miss_what_is_left_out(tmp_path: Path) -> None:
    """Programs explain two tasks of ARC-AGI-1: one with each demonstration left out, too, the other with none."""
    known = load_splits("arc1")
    steady, shaky = known["search"]["67a3c6ac"], known["search"]["f76d97a5"]
    keys = dict(zip(ids("search", 2), (steady, shaky), strict=True))
    files = {key: recolour() for key in (*ids("train", 1), *ids("test", 1))}
    for key, own in keys.items():
        files[key] = task(*([(a.tolist(), b.tolist()) for a, b in part] for part in (own.demonstrations, own.tests)))
    arc = ArcTask(data=write(tmp_path / "tasks", files), same_size=False, max_side=30)
    judged, plain = (replace(CONFIG, held_out=own).build(None, arc, 0) for own in (True, False))
    easy, hard = keys
    assert [misses_half(Puzzle(own.demonstrations, own.test_inputs)) for own in keys.values()] == [False, True]
    assert [key for one in (judged, plain) for own in one.batches for key in own] == [hard]
    judged.round()
    [votes] = judged.votes()[hard]
    [programs] = plain.votes()[hard]
    [[network]] = [batch.votes()[0] for batch in judged.batches.values()]
    assert np.array_equal(votes.first, programs.first)
    assert np.array_equal(votes.second, network.first)
    assert not np.array_equal(votes.second, programs.second)
    assert judged.votes()[easy][0].source == "programs"
    shares = judged.evaluate().metrics
    assert (shares["share.programs"], shares["share.programs_and_networks"]) == (0.5, 0.5)


def test_a_demonstration_that_is_left_out_is_the_first_test() -> None:
    grids = [np.full((1, 1), i, np.int8) for i in range(7)]
    own = Puzzle(((grids[0], grids[1]), (grids[2], grids[3]), (grids[4], grids[5])), (grids[6],))
    second = held_out(own)[1]
    assert [int(b[0, 0]) for _, b in second.demonstrations] == [1, 5]
    assert [int(one[0, 0]) for one in second.test_inputs] == [2, 6]
    two = Puzzle(own.demonstrations[:2], own.test_inputs)
    assert not misses_half(two), "of two demonstrations, one alone explains little"
    assert not solved(own).attempts
    assert not misses_half(own), "programs that explain nothing are not judged"


def test_it_resumes_to_the_same_answers(mixed: ArcTask) -> None:
    straight, resumed = (CONFIG.build(None, mixed, 1) for _ in range(2))
    straight.round()
    resumed.load(straight.state())
    assert straight.round() == resumed.round()
    assert straight.completions() == resumed.completions()


def test_where_programs_explain_all_there_is_nothing_to_train(tmp_path: Path) -> None:
    tasks = {key: recolour() for split in ("search", "train", "test") for key in ids(split, 1)}
    learner = CONFIG.build(None, ArcTask(data=write(tmp_path / "tasks", tasks)), 0)
    assert learner.round().loss == 0.0
    assert learner.evaluate().score == 1.0


def test_planes_are_the_outputs_of_the_closest_programs() -> None:
    """A lens sees the input; one program is right but for a cell, another gives tests of another size."""
    source, target = np.array([[1, 0], [0, 1]], np.int8), np.array([[2, 0], [0, 3]], np.int8)
    seen = Puzzle(((source, target),), (source,))
    close = Program(("close",), 1, (np.array([[2, 0], [0, 2]]), np.array([[2, 0], [0, 2]])))
    other_size = Program(("other",), 1, (target, np.zeros((1, 1))))
    plain, own = canvas(seen), canvas(seen, programs=[other_size, close])
    assert plain is not None
    assert own is not None
    assert own.lenses[0] == "close"
    assert "other" not in own.lenses
    assert own.lenses[1 : len(plain.lenses) + 1] == plain.lenses[:5]
    assert own.tests[0][0].tolist() == [[2, 0], [0, 2]]
    assert (own.tests[0][len(own.lenses) :] == OUTSIDE).all()


def test_a_task_without_a_lens_has_the_sizes_of_the_best_program() -> None:
    target = np.array([[1, 2, 3]], np.int8)
    sources = np.zeros((2, 2), np.int8), np.ones((3, 3), np.int8)
    seen = Puzzle(tuple((source, target) for source in sources), (np.ones((2, 3), np.int8),))
    own = canvas(seen, programs=[Program(("right",), 1, (target, target, target))])
    assert own is not None
    assert own.exact, "the program gives every demonstration"
    assert own.tests[0].shape[1:] == (1, 3)


def test_planes_of_programs_are_a_choice_of_percell(mixed: ArcTask) -> None:
    with_planes = PercellConfig(**QUICK_FIELDS, program_planes=True).build(None, mixed, 0)
    without = PercellConfig(**QUICK_FIELDS).build(None, mixed, 0)
    easy = puzzle(mixed.search()[0]) if mixed.search()[0].key == ids("search", 1)[0] else puzzle(mixed.search()[1])
    assert canvas(easy) is not None
    names = {key: own.lenses for key, own in with_planes.canvases_of(mixed.search()).items()}
    plain = {key: own.lenses for key, own in without.canvases_of(mixed.search()).items()}
    assert names != plain
    assert all(len(names[key]) >= len(plain[key]) for key in plain)


def test_a_learner_that_reads_programs_says_so_before_training() -> None:
    reading = replace(SWEEP.pairs[1], learner=PercellConfig(program_planes=True))
    assert [reference_name(pair) for pair in (*SWEEP.pairs, reading)] == [
        "untrained ensemble (programs and lenses alone)",
        "untrained percell (lenses alone)",
        "untrained percell (programs and lenses alone)",
    ]
    assert replace(CONFIG, program_planes=False).untrained() == "programs and lenses alone", "programs answer anyway"
    fixed = SWEEP.fix({"percell.program_planes": True})
    percell = next(pair for pair in fixed.pairs if pair.name == "percell")
    assert fixed.as_fixed(percell).learner.program_planes, "as with --set, on the command line"
