"""A learner that only this file knows passes through a sweep: no table anywhere else has to name it or its fields."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import models
from search_spaces.space import Space
from sweeps.commands.steering import clone
from sweeps.persistence.lock import driving
from sweeps.persistence.study import TUNE_ID, opened, storage_of
from sweeps.resources.placement import Machine, place
from sweeps.results.leaderboard import write_all
from sweeps.results.records import TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.sweep import Sweep
from tests.support.toys import Letters
from trainables.bad_input import BadInput
from trainables.core import Adapter, Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.options import limits, option
from trainables.packed.host import Host
from trainables.runtime.trial import ROUND_FILE, STATE_FILE

BASE = "builtin:tiny"


@dataclass(frozen=True)
class WiderLoraConfig(LoraConfig):
    """LoRA whose rank is the sum of two fields. A sweep knows nothing about the second but what `option` says."""

    name: ClassVar[str] = "wider_lora"

    extra_rank: int = option(2, limit="hidden_size", reserve=True, shapes_weights=True)  # added to `r`

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extra_rank < 0:
            raise ValueError(f"extra_rank is {self.extra_rank}; it must be at least 0")

    def adapter(self) -> Adapter:
        return replace(super().adapter(), r=self.r + self.extra_rank)


SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-3, 1e-1, log=True),
        "r": CategoricalDistribution((2, 4)),
        "extra_rank": IntDistribution(1, 12),
    }
)
SWEEP = Sweep(
    name="wider",
    pairs=(Pair(WiderLoraConfig(steps_per_round=2), Letters(), BASE),),
    space=SPACE,
    num_samples=8,
    rounds=3,
)


@pytest.fixture
def running_sweep(tmp_path):
    """The folder of a sweep whose driver is alive: trial 0 has a checkpoint of its first round."""
    params = {"learning_rate": 1e-2, "r": 2, "extra_rank": 3}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"sweep": SWEEP.to_dict()}))
    entry = {"round": 1, "score": 0.5, "loss": 1.0, "time_s": 1.0, "seconds": 1.0, "at": 1e9, "diverged": False}
    record = TrialRecord("t0", 0, TrialParams("wider_lora", params), "running", TrialHistory((entry,)), 12)
    write_all(tmp_path, [record], baselines={"chance": 0.1}, rounds=3)
    checkpoint = tmp_path / "tune/t0/checkpoint_000000"
    checkpoint.mkdir(parents=True)
    (checkpoint / ROUND_FILE).write_text("1 5")  # the round, and the bytes of the state
    (checkpoint / STATE_FILE).write_bytes(b"state")
    study = optuna.create_study(study_name=SWEEP.name, storage=opened(storage_of(tmp_path)))
    study.enqueue_trial(params, user_attrs={TUNE_ID: "t0"})
    with driving(tmp_path):
        yield tmp_path, study


def test_a_sweep_accepts_its_axes_and_refuses_what_it_refuses():
    SWEEP.validate()
    params = TrialParams("wider_lora", {"learning_rate": 1e-2, "r": 4, "extra_rank": 5})
    assert SWEEP.resolve(params).learner.adapter().r == 9
    with pytest.raises(BadInput, match="extra_rank"):
        replace(SWEEP, space=SPACE.replace(extra_rank=IntDistribution(-1, 12))).validate()


def test_a_host_reserves_room_for_the_largest_value_of_its_field():
    shape = place(SWEEP, Machine(cores=1, free_bytes=1e12)).shape
    assert shape is not None
    assert shape.max_rank == 4 + 12
    largest = replace(SWEEP.pairs[0].learner, r=4, extra_rank=12)
    host = Host(load(BASE), shape)
    host.open("a", largest.build(load(BASE), Letters(), seed=0), seed=0)
    result = host.round("a")
    ranks = {min(value.shape) for value in host.values("a").values()}
    host.shut()
    assert math.isfinite(result.loss)
    assert ranks == {4 + 12}


def test_a_base_bounds_its_field():
    wide = SPACE.replace(extra_rank=IntDistribution(1, 5000))
    fitted = models.fit(wide, limits(WiderLoraConfig()), "Qwen/Qwen2.5-0.5B-Instruct")
    assert fitted.axes["extra_rank"] == IntDistribution(1, 896)


def test_a_clone_keeps_the_shape_of_its_weights_and_may_change_the_rest(running_sweep):
    folder, study = running_sweep
    with pytest.raises(BadInput, match=r"extra_rank=4: .* shape of its own extra_rank"):
        clone("0", ("extra_rank=4",), run=folder)
    clone("0", ("learning_rate=2e-2",), run=folder)
    waiting = study.get_trials()[-1].system_attrs["fixed_params"]
    assert waiting == {"learning_rate": 2e-2, "r": 2, "extra_rank": 3}
