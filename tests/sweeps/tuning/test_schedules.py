"""A learning rate that falls is at zero when its trial ends, however many rounds were asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from sweeps import arena, strategyqa, style
from sweeps.cli.flags import parse
from sweeps.results.trial_params import TrialParams
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import Sweep
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.sft import SftConfig, SftLearner
from trainables.models.loading import load
from trainables.tasks.style.task import StyleTask

SWEEPS = {"arena": arena.SWEEP, "style": style.SWEEP, **strategyqa.SWEEP.phases}
SMALL = ["--task.train-size", "64", "--task.search-size", "20", "--task.test-size", "20"]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("rounds", [3, 12])
@pytest.mark.parametrize("name", SWEEPS)
def test_it_falls_to_zero_with_the_last_round_that_was_asked_for(name: str, rounds: int, kind: str) -> None:
    _, asked = parse(SWEEPS[name], ["--rounds", str(rounds), *SMALL])
    for params in suggested(asked, lr_scheduler_type=kind):
        pair = asked.resolve(params)
        learner: Any = pair.learner.build(load("builtin:tiny"), pair.task, 0)
        settings, steps = learner.optimizer, learner.steps_per_round
        assert 0.01 < settings.lr_factor((rounds - 1) * steps) < 0.4
        assert settings.lr_factor(rounds * steps) == pytest.approx(0, abs=1e-9)
        assert written(asked).resolve(params) == pair, "`espalier reproduce` trains by the same schedule"


def suggested(sweep: Sweep, **values: Any) -> list[TrialParams]:
    """A trial with these values for every learner."""
    return [TrialParams(name, values) for name in sweep.pair_names]


def written(sweep: Sweep) -> Sweep:
    """Return the configuration as `sweep.yaml` has it."""
    return rebuild({"sweep": yaml.safe_load(yaml.safe_dump(sweep.to_dict()))})


def test_who_says_how_long_is_believed() -> None:
    trials = suggested(arena.SWEEP, schedule_rounds=20)
    learners: list[Any] = [arena.SWEEP.resolve(params).learner for params in trials]
    assert [learner.schedule_rounds for learner in learners] == [20, 20, 20]


@pytest.mark.parametrize("config", [LoraConfig(lr_scheduler_type="linear"), SftConfig(warmup_ratio=0.1)])
def test_outside_a_sweep_a_schedule_needs_its_rounds(config: LoraConfig) -> None:
    with pytest.raises(
        ValueError, match="schedule_rounds is 0, which a sweep sets; outside of a sweep, set schedule_rounds"
    ):
        config.optimizer()


CORPUS = StyleTask("generated", 0, 24, 12, 12)


def built(task: StyleTask, **fields: Any) -> SftLearner:
    return SftConfig(**fields).build(load("builtin:tiny"), task, 0)


def test_rounds_and_schedules_are_shares_of_epochs() -> None:
    one = built(CORPUS, per_device_train_batch_size=4, schedule_rounds=6, warmup_ratio=0.1)
    assert (one.steps_per_round, one.optimizer.total_steps, one.optimizer.warmup_steps) == (3, 18, 2)
    told = built(CORPUS, per_device_train_batch_size=4, steps_per_round=5, schedule_rounds=2, warmup_steps=1)
    assert (told.steps_per_round, told.optimizer.total_steps, told.optimizer.warmup_steps) == (5, 10, 1)
    often = built(CORPUS, per_device_train_batch_size=4, rounds_per_epoch=3, schedule_rounds=6)
    assert (often.steps_per_round, often.optimizer.total_steps) == (2, 12)


@pytest.mark.parametrize(("rows", "batch", "steps"), [(33, 4, 33), (33, 16, 9), (24, 16, 8)])
def test_few_rows_are_seen_as_often_in_large_batches_as_in_small_ones(rows: int, batch: int, steps: int) -> None:
    """Eight rounds, four epochs: of 33 rows 132 are drawn, and less than a batch more, unless a round had no step."""
    fields = {"per_device_train_batch_size": batch, "lr_scheduler_type": "linear", "schedule_rounds": 8}
    one, taken = built(replace(CORPUS, train_size=rows), **fields), 0
    for _ in range(8):
        list(one.prepare())
        assert one.optimizer.lr_factor(taken) > 0
        for _ in range(one.steps_per_round):
            one.next_rows()
        taken += one.steps_per_round
    assert taken == steps == one.optimizer.total_steps
