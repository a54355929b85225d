"""A learning rate that falls is at zero when its trial ends, however many rounds were asked for."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sweeps import arena, strategyqa, style
from sweeps.engine.flags import parse
from sweeps.engine.rebuild import rebuild
from sweeps.engine.sweep import Sweep
from trainables.adamw import schedule
from trainables.bases import load
from trainables.learners.lora import LoraConfig
from trainables.learners.sft import SftConfig

SWEEPS = {"arena": arena.SWEEP, "style": style.SWEEP, **strategyqa.SWEEP.phases}
SMALL = ["--task.train-size", "64", "--task.search-size", "20", "--task.test-size", "20"]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("rounds", [3, 12])
@pytest.mark.parametrize("name", SWEEPS)
def test_it_falls_to_zero_with_the_last_round_that_was_asked_for(name: str, rounds: int, kind: str) -> None:
    _, asked = parse(SWEEPS[name], ["--rounds", str(rounds), *SMALL])
    for params in suggested(asked, lr_scheduler_type=kind):
        pair, _ = asked.resolve(params)
        learner: Any = pair.learner.build(load("builtin:tiny"), pair.task, 0)
        settings, steps = learner.optimizer, learner.steps_per_round
        assert 0.01 < schedule(settings, (rounds - 1) * steps) < 0.4
        assert schedule(settings, rounds * steps) == pytest.approx(0, abs=1e-9)
        assert written(asked).resolve(params)[0] == pair, "`espalier reproduce` trains by the same schedule"


def suggested(sweep: Sweep, **values: Any) -> list[dict[str, Any]]:
    """Of every learner a trial with these values."""
    names = [pair.learner.name for pair in sweep.pairs]
    if len(names) == 1:
        return [values]
    return [{"learner": name} | {f"{name}.{axis}": value for axis, value in values.items()} for name in names]


def written(sweep: Sweep) -> Sweep:
    """As `sweep.yaml` has it."""
    return rebuild({"sweep": yaml.safe_load(yaml.safe_dump(sweep.to_dict()))})


def test_who_says_how_long_is_believed() -> None:
    trials = suggested(arena.SWEEP, schedule_rounds=20)
    learners: list[Any] = [arena.SWEEP.resolve(params)[0].learner for params in trials]
    assert [learner.schedule_rounds for learner in learners] == [20, 20, 20]


@pytest.mark.parametrize(
    ("config", "said"),
    [(LoraConfig(lr_scheduler_type="linear"), "say after how many"), (SftConfig(warmup_ratio=0.1), "say of how many")],
)
def test_outside_a_sweep_somebody_must_say(config: LoraConfig, said: str) -> None:
    with pytest.raises(ValueError, match=f"schedule_rounds 0, which a sweep fills in; outside of one, {said}"):
        config.optimizer()
