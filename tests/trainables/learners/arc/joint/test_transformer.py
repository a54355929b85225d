"""The transformer of joint: it learns planted rules of several tasks at once, resumes bit for bit, and sees no test
output."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.arc_files import becomes, ids, task
from tests.support.joint_kit import filed
from trainables.core import Split
from trainables.learners.arc.canvas import OUTSIDE, PLANES
from trainables.learners.arc.joint.rows import FiledTask, Pair, read, read_answers, row_of
from trainables.learners.arc.joint.transformer import Transformer, TransformerShape
from trainables.learners.arc.joint.transformer_training import (
    JointTransformer,
    TransformerTraining,
    _table,
    _together,
    _upright,
)
from trainables.tasks.arc.grids import COLOURS
from trainables.tasks.arc.views import TURNS

SHAPE = TransformerShape(hidden_size=32, layers=1, heads=2, dropout=0.0)
CONFIG = TransformerTraining(SHAPE, learning_rate=1e-2, cells=256)
SPLITS: tuple[Split, ...] = ("train", "search", "test")


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Two tasks to learn from and one of each other split, every one with a rule of its own."""
    keys = [*ids("train", 2), *ids("search", 1), *ids("test", 1)]
    return filed(tmp_path / "rules", {key: becomes(1 + i, (3 + i) % 5, i) for i, key in enumerate(keys)})


def trained(
    file: Path, steps: int, transductive: bool = True, config: TransformerTraining = CONFIG
) -> JointTransformer:
    model = JointTransformer(read(file)[0], config, transductive)
    for step in range(steps):
        model.step(step / steps)
    return model


def solved(model: JointTransformer, file: Path) -> set[str]:
    tasks, known = read(file)[0], read_answers(file)
    votes = model.votes(tasks, 10, lambda: True)
    return {
        key
        for key, own in votes.items()
        if all(np.array_equal(v.first, t) for v, t in zip(own, known[key], strict=True))
    }


def test_it_learns_rules_of_its_tasks_and_only_of_those(rules: Path) -> None:
    """Before training it copies. The vector of a task that took no part says nothing of its rule."""
    assert solved(trained(rules, 0), rules) == set()
    assert solved(trained(rules, 150), rules) == {one.key for one in read(rules)[0]}
    assert solved(trained(rules, 150, transductive=False), rules) == {*ids("train", 2)}


def test_it_resumes_bit_for_bit(rules: Path) -> None:
    config = replace(CONFIG, shape=replace(SHAPE, dropout=0.1))
    straight, first, second = (trained(rules, 0, config=config) for _ in range(3))
    whole = [float(straight.step(step / 12)) for step in range(12)]
    half = [float(first.step(step / 12)) for step in range(5)]
    second.load(first.state())
    assert half + [float(second.step(step / 12)) for step in range(5, 12)] == whole
    for name, value in straight.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[name]), name


def test_test_outputs_never_enter_training(tmp_path: Path) -> None:
    """With poisoned ones, of another size and colour, the data's hash, weights and answers are the same."""
    tasks = {key: becomes(1, 2, i) for i, key in enumerate(ids(split, 1)[0] for split in SPLITS)}
    poisoned = json.loads(json.dumps(tasks))
    for content in poisoned.values():
        content["test"][0]["output"] = [[9, 9]]
    files = [filed(tmp_path / name, own) for name, own in (("clean", tasks), ("poisoned", poisoned))]
    assert read(files[0])[1] == read(files[1])[1]
    models = [trained(file, 20) for file in files]
    for name, value in models[0].net.state_dict().items():
        assert torch.equal(value, models[1].net.state_dict()[name]), name
    said = [model.votes(read(file)[0], 3, lambda: True) for model, file in zip(models, files, strict=True)]
    assert [own[0].first.tolist() for own in said[0].values()] == [own[0].first.tolist() for own in said[1].values()]
    assert read_answers(files[1])[ids("test", 1)[0]][0].tolist() == [[9, 9]]


def test_a_view_that_is_cut_off_does_not_vote(rules: Path) -> None:
    model, (tasks, _) = trained(rules, 0), read(rules)
    model.config = replace(model.config, cells=9)  # a test input each
    left = iter([True] * 6 + [False] * 99)
    assert len(model.votes(tasks, 10, lambda: next(left))) == 4
    assert model.votes(tasks, 10, lambda: False) == {}
    votes = model.votes(tasks[:1], 10, lambda: True)
    assert votes.keys() == {tasks[0].key}


def pair(*shape: int) -> Pair:
    """A canvas of another size than its input, which it does not show."""
    rng = np.random.default_rng(0)
    planes = np.full((PLANES, *shape), OUTSIDE, np.int8)
    planes[:2] = rng.integers(0, 10, (2, *shape))
    return Pair(planes, rng.integers(0, 10, (4, 5)).astype(np.int8), rng.integers(0, 10, shape).astype(np.int8))


@pytest.mark.parametrize("view", range(TURNS))
def test_what_a_view_says_is_turned_and_recoloured_back(view: int) -> None:
    own, table = pair(2, 3), _table(np.array([0, 4, 7]), np.random.default_rng(3))
    assert (table != np.arange(11)).any()
    row = row_of(own, view)
    assert own.target is not None
    told = np.eye(COLOURS + 1)[table[row.targets]][:, :COLOURS]  # who is sure of every recoloured cell
    assert np.array_equal(_upright(told, own, view, table).argmax(0), own.target)
    assert (row.targets[6:] == OUTSIDE).all(), "nothing is to be told of the input"
    assert row.places[:, 0].tolist() == [1] * 6 + [0] * 20


def test_an_input_that_a_plane_shows_is_no_grid_of_its_own(tmp_path: Path) -> None:
    """Of a task that keeps its size, and of one that cuts out a corner."""
    small = task(
        [([[1, 2, 3], [3, 2, 1], [i, 4, i]], [[1, 2], [3, 2]]) for i in range(3)], [([[5, 6, 7]] * 3, [[5, 6]] * 2)]
    )
    keys = [*ids("train", 2), *ids("search", 1), *ids("test", 1)]
    tasks, _ = read(filed(tmp_path / "both", dict(zip(keys, (becomes(1, 2, 0), small, small, small), strict=True))))
    sources = {one.key: one.tests[0].source for one in tasks}
    assert sources[keys[0]] is None
    assert np.array_equal(sources[keys[1]], [[5, 6, 7]] * 3)


def test_padding_changes_no_answer() -> None:
    torch.manual_seed(0)
    net = Transformer(replace(SHAPE, layers=2), 3).eval()
    torch.nn.init.normal_(net.head.weight)
    device = torch.device("cpu")
    short, long = row_of(pair(2, 3), 0), row_of(pair(5, 4), 1)
    both, alone = _together([short, long], [2, -1], [0, 1], device), _together([short], [2], [0], device)
    assert alone.present is None
    wide, narrow = (net(own.cells, own.places, own.tasks, own.turns, own.present) for own in (both, alone))
    assert torch.allclose(wide[0, : len(short.targets)], narrow[0], atol=1e-5)


def test_places_and_vectors_matter() -> None:
    """An answer depends on where a cell is in each of three dimensions, on the task and on the turn."""
    torch.manual_seed(0)
    net = Transformer(replace(SHAPE, layers=2), 2).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    own = _together([row_of(pair(2, 3), 0)], [0], [0], torch.device("cpu"))
    plain = net(own.cells, own.places, own.tasks, own.turns)

    def differs(**changed: torch.Tensor) -> bool:
        other = own._replace(**changed)
        return not torch.allclose(net(other.cells, other.places, other.tasks, other.turns)[:, 1:], plain[:, 1:])

    for axis in range(3):
        places = own.places.clone()
        places[0, 0, axis] = 1 - places[0, 0, axis]
        assert differs(places=places)
    assert differs(tasks=torch.tensor([1]))
    assert differs(tasks=torch.tensor([-1]))
    assert differs(turns=torch.tensor([5]))
    shifted = own.places.clone()
    shifted[:, :, 1:] += 3
    assert torch.allclose(net(own.cells, shifted, own.tasks, own.turns), plain, atol=1e-4), "only distances count"


def test_every_demonstration_is_drawn_equally_often(tmp_path: Path) -> None:
    """A long row takes more of a step, so its group comes more often."""
    wide = task([([[i] * 12] * 4, [[i] * 12] * 4) for i in range(4)], [([[5] * 12] * 4, [[5] * 12] * 4)])
    keys = [*ids("train", 2), *ids("search", 1), *ids("test", 1)]
    file = filed(tmp_path / "sizes", dict(zip(keys, (becomes(1, 2, 0), wide, wide, wide), strict=True)))
    model = JointTransformer(read(file)[0], replace(CONFIG, cells=96), False)
    drawn = [model._data.draw(np.random.default_rng(i), torch.device("cpu")) for i in range(1500)]
    tasks = np.concatenate([own.tasks.numpy() for own in drawn])
    assert 0.45 < np.mean(tasks) < 0.55
    assert {own.cells.shape[1] for own in drawn} == {9, 48}
    assert max(own.cells.shape[0] * own.cells.shape[1] for own in drawn) <= 96


def test_refused(tmp_path: Path, rules: Path) -> None:
    with pytest.raises(ValueError, match="heads of 5 numbers"):
        TransformerShape(hidden_size=10, heads=2)
    for content in (b"", b"[]"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match=r"other: cannot be read .*; write it with benchmarks/joint_data.py"):
            read(tmp_path / "other")
    only = [FiledTask("a", "train"), *(one for one in read(rules)[0] if one.split != "train")]
    with pytest.raises(ValueError, match="no task of the train split has a canvas"):
        JointTransformer(only, CONFIG, False)
