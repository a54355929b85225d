"""What `joint_gpu.py` counts, and how its commands follow on from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.arc_all import share_of
from benchmarks.joint_gpu import Pace, main, share, solved
from tests.support.arc_files import becomes, ids
from tests.support.joint_kit import SPLITS, filed
from trainables.states import unpack


@pytest.mark.parametrize(("count", "total"), [(0, 7), (3, 7), (7, 7), (81, 400), (0, 0)])
def test_its_interval_is_the_one_of_sweeps(count: int, total: int) -> None:
    assert share(count, total) == share_of([1.0] * count + [0.0] * (total - count))


def test_every_test_output_has_to_be_right_in_either_attempt() -> None:
    right, wrong = np.eye(2), np.ones((2, 2))
    assert solved([(wrong, right), (right, wrong)], [right, right])
    assert not solved([(wrong, right), (wrong, np.eye(3))], [right, right])
    assert not solved([(wrong,)], [right])


def test_a_loss_that_is_not_finite_ends_it_before_a_checkpoint_is_written() -> None:
    pace = Pace(0)
    for nats in (1.0, 2.0):
        pace.add(torch.tensor(nats))
    assert pace.check(2) == 1.5
    pace.add(torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="the loss is nan before step 3; give a lower --learning-rate"):
        pace.check(3)


def test_two_commands_share_the_announced_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each takes half of them. The second cannot change what the first announced, and ends the schedule."""
    file = filed(tmp_path / "tasks", {ids(split, 1)[0]: becomes(1, 2, 0) for split in SPLITS})
    tiny = ["--hidden-size", "16", "--layers", "1", "--heads", "2", "--cells", "64"]

    def said(*more: str) -> str:
        main(["--data", str(file), "--checkpoint", str(tmp_path / "run"), *tiny, *more])
        return capsys.readouterr().out

    first = said("--minutes", "0.03", "--of", "0.06")
    assert "not transductive: the train split's demonstrations are trained on" in first
    assert "of the schedule is done; the same command goes on" in first
    wrong = r"was made with of=.'minutes': 0.06., not .'minutes': 0.09.; give another --checkpoint"
    for flags, remedy in (
        (("--of", "0.09"), wrong),
        (("--of", "0.06", "--transductive"), "made with transductive=False, not True"),
    ):
        with pytest.raises(ValueError, match=remedy):
            said("--minutes", "0.03", *flags)
    steps = unpack((tmp_path / "run/checkpoint.safetensors").read_bytes())["model"]["steps"]
    second = said("--minutes", "0.06", "--answer", "test", "train")
    assert steps > 0
    assert f"begins at step {steps}," in second
    assert "the same command goes on" not in second
    for split, told in (("test", "not trained on"), ("train", "trained on")):
        assert f"{split}: 0/1 = 0.0%" in second or f"{split}: 1/1 = 100.0%" in second
        assert f"their demonstrations were {told}" in second
