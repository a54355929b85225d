"""The guard against training on official evaluation tasks, by their grids, whatever they are called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search_spaces.space import Space
from sweeps.results.statistics import smallest_difference
from sweeps.spec.sweep import Sweep
from sweeps.tuning.session import check
from tests.support.arc_files import ids, recolour, task, write, write_all_splits
from tests.support.toys import ToyConfig
from trainables.bad_input import BadInput
from trainables.checks.guards import inspect
from trainables.core import Pair
from trainables.tasks.arc.data import TWICE, load_splits
from trainables.tasks.arc.task import ArcTask


def found(task):
    return {finding.guard: finding for finding in inspect(task, smallest_difference)}


def whole(data):
    return ArcTask(data=data, same_size=False, max_side=30)


def test_arc2_says_what_it_trains_on():
    """The published count: ARC-AGI-2 trains on 376 evaluation tasks of ARC-AGI-1, their demonstrations reordered."""
    finding = found(whole("arc2"))["published"]
    assert not finding.stops, "6 of its own test tasks are of both sets, and are no mixture"
    assert "376 of 1,000 train and search tasks are evaluation tasks of ARC-AGI-1: keys" in finding.what
    assert finding.what.endswith("do not report ARC-AGI-1 evaluation for what this trains")


def test_only_what_is_left_after_the_filters_counts():
    older = load_splits("arc1")["test"]
    for arc in (ArcTask(data="arc2"), ArcTask(data="arc2", limit_train=40, limit_search=1, seed=3)):
        learned = [*arc.train(), *arc.search()]
        shared = sum(example.key in older for example in learned)
        assert 0 < shared < 376
        assert f"{shared} of {len(learned)} train and search tasks" in found(arc)["published"].what


def test_both_sets_together_are_refused_until_allowed():
    sweep = Sweep("mixed", (Pair(ToyConfig(), whole("arc1+arc2")),), Space({}))
    said = (
        r"^guard published: 376 of 1,009 train and search tasks are evaluation tasks of ARC-AGI-1, which test asks too:"
        r" keys '\w+', '\w+'; use one official set alone \(data=arc1 or data=arc2\), .*, or pass --allow published$"
    )
    with pytest.raises(BadInput, match=said):
        check(sweep)
    with pytest.raises(BadInput, match=r"^guard overlap: "):
        check(sweep, ["published"])


def test_arc1_alone_is_no_mixture():
    assert "published" not in found(ArcTask())
    slip = found(whole("arc1"))
    assert "published" not in slip
    assert f"train and test overlap: key '{TWICE}'" in slip["overlap"].what, "all that is wrong with it, said once"


def evaluation_task(name, number, turned=False):
    """An official evaluation task as a user's file would have it; `turned`: its demonstrations in another order."""
    pairs = list(load_splits(name)["test"].values())[number]
    listed = [[(a.tolist(), b.tolist()) for a, b in part] for part in (pairs.demonstrations, pairs.tests)]
    return task(listed[0][::-1] if turned else listed[0], listed[1])


def test_a_renamed_evaluation_task_is_known_by_its_grids(tmp_path):
    folder = write_all_splits(tmp_path, recolour())
    assert "published" not in found(whole(folder))
    mine = ids("train", 2)[1]
    official = evaluation_task("arc1", 7, turned=True)
    inputs = [dict(pair, output=recolour()["test"][0]["output"]) for pair in official["train"]]
    write(tmp_path, {mine: {**official, "train": inputs, "test": recolour()["test"]}})
    assert "published" not in found(replace(whole(folder), seed=1)), "its inputs alone do not tell what it asks"

    write(tmp_path, {mine: official})
    own = found(replace(whole(folder), seed=2))["published"]
    assert not own.stops
    assert f"1 of 3 train and search tasks are evaluation tasks of ARC-AGI-1: keys '{mine}'" in own.what
    assert found(whole(f"arc1+{folder}"))["published"].stops
    assert not found(whole(f"arc2+{folder}"))["published"].stops

    write(tmp_path, {ids("test", 2)[1]: evaluation_task("arc1", 8)})
    mixed = found(replace(whole(folder), seed=3))["published"]
    assert mixed.stops
    assert "of ARC-AGI-1, which test asks too" in mixed.what
