"""grpo in a host: neighbours and a restart change no bit (also `test_packing.py`), and it learns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.support.miniatures import base
from tests.support.packing_kit import CONFIGS, SHAPE, TASK, nan, same
from trainables.core import Task
from trainables.learners.lm.grpo import GrpoConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import Base, load
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask
from trainables.training.standalone import with_peft

OURS: Any = CONFIGS["grpo"]
FIGURES = ("reward", "reward_std", "entropy", "kl", "completions/mean_length")


def watched(host: Host, trial_id: str) -> list[list[Any]]:
    """Record what a trial samples: tokens, log-probabilities and entropies of every completion."""
    learner: Any = host.trials[trial_id].learner
    seen: list[list[Any]] = []
    plain = learner._rated

    def rated(examples: Any, prompts: Any, completions: Any, measure_kl: bool) -> Any:
        seen.append([(one.tokens, one.ended, one.logprobs, one.entropies) for one in completions])
        return plain(examples, prompts, completions, measure_kl)

    learner._rated = rated
    return seen


def opened(host: Host, trial_id: str, config: Any, task: Task = TASK, seed: int = 0) -> None:
    host.open(trial_id, config.build(host.base, task, seed), seed)


def test_samples_are_a_trials_own_whoever_sits_beside_it_and_after_a_restart() -> None:
    """The others have longer completions, other learners, and one of them is NaN."""
    host = Host(base("qwen2"), SHAPE)
    opened(host, "t", OURS)
    alone = watched(host, "t")
    for _ in range(3):
        host.round("t")
    figures, values = host.evaluate("t").metrics, host.values("t")
    host.shut()
    assert len(alone) == 3
    assert len({tuple(tokens) for own in alone for tokens, *_ in own}) > 10
    assert figures["reward_std"] > 0, "rewards differ, so there is a gradient"
    assert any(bool(value.any()) for name, value in values.items() if name.endswith(".B"))

    beside = Host(base("qwen2"), SHAPE)
    longer = GrpoConfig(steps_per_round=1, r=2, num_generations=2, max_completion_length=11, temperature=0.6)
    opened(beside, "longer", longer, seed=3)
    opened(beside, "broken", OURS, seed=5)
    nan(beside, "broken")
    opened(beside, "t", OURS)
    opened(beside, "lora", LoraConfig(steps_per_round=3, r=8))
    found = watched(beside, "t")
    for _ in range(2):
        results = beside.run(dict.fromkeys(beside.trial_ids, "round"))
        assert math.isnan(results["broken"].loss)
    state = beside.state("t")
    beside.close("t")
    beside.close("broken")
    opened(beside, "t", OURS)
    beside.load("t", state)
    found += (after := watched(beside, "t"))
    beside.run(dict.fromkeys(beside.trial_ids, "round"))
    assert len(after) == 1
    assert [*found, *after] == alone
    assert same(beside.values("t"), values)
    again = beside.evaluate("t").metrics
    assert {name: again[name] for name in FIGURES} == {name: figures[name] for name in FIGURES}
    beside.shut()


def test_the_base_keeps_no_answer_to_rows_that_never_come_again() -> None:
    host = Host(base("qwen2"), SHAPE)
    opened(host, "t", OURS)
    for _ in range(2):
        host.round("t")
    assert not host.executor._base_answers
    host.shut()


def test_a_round_of_peft_and_transformers_is_the_hosts() -> None:
    """The first generation: later ones differ where rounding decides a token."""
    from trainables.models.peft_adapters import lora_config

    fields: dict[str, Any] = {"steps_per_round": 2, "num_iterations": 2, "num_generations": 4, "length_penalty": 1.0}
    fields |= {"max_completion_length": 16, "learning_rate": 1e-2}
    config = GrpoConfig(**fields, per_device_train_batch_size=8, temperature=1.3, beta=0.1, r=4)
    ours = Solo(base("qwen2"), config.build(base("qwen2"), TASK, 0), 0)
    wanted, figures = ours.round(), ours.evaluate().metrics
    other: Base = base("qwen2")
    learner = config.build(other, TASK, 0)
    theirs = with_peft(other, lora_config(other, learner.adapter), learner, 0)
    found, told = theirs.round(), theirs.evaluate().metrics
    assert found.loss == pytest.approx(wanted.loss, abs=1e-5)
    assert found.metrics["grad_norm"] > 0
    assert {name: told[name] for name in FIGURES} == pytest.approx({name: figures[name] for name in FIGURES}, abs=1e-4)
    theirs.close()
    ours.close()


def test_it_raises_the_score_of_the_built_in_base_on_a_few_kinds_of_questions() -> None:
    torch.manual_seed(0)
    tiny, task = load("builtin:tiny"), ArenaTask(kinds=("comparison",), train_size=64, search_size=60)
    config = GrpoConfig(learning_rate=4e-3, rows_per_round=192, per_device_train_batch_size=32)
    host = Host(tiny, Shape(seats=1, lanes=32, max_rank=config.r))
    opened(host, "t", config, task)
    before = host.evaluate("t").score
    rewards = []
    for _ in range(4):
        host.round("t")
        told = host.evaluate("t")
        rewards.append(told.metrics["reward"])
    host.shut()
    assert rewards[-1] > rewards[0] + 0.1
    assert told.score > before + 0.1
