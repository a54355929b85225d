"""Trials under Tune's own ASHA, packed and as PEFT runs them: the same scores, stops and ranking."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search_spaces.lora import SPACE
from sweeps.spec.sweep import Sweep
from sweeps.tuning.stopping import stopping_asha
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.models.peft_adapters import lora_config
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask
from trainables.training.standalone import with_peft

BASE = "builtin:tiny"
TASK = ArenaTask(train_size=60, search_size=16)
SEATS, ROUNDS = 4, 4
CONFIGS = {
    f"t{i:02}": LoraConfig(
        steps_per_round=2,
        per_device_train_batch_size=2,
        learning_rate=2e-4 * 1.4 ** (7 * i % 16),
        r=(2, 4, 8)[i % 3],
        lora_alpha=(8.0, 32.0)[i % 2],
        weight_decay=0.1 * (i % 2),
    )
    for i in range(16)
}
Said = tuple[str, int, float, str]  # a trial, its round, its score, and what ASHA made of it


class Packed:
    """Trials take seats of one host and leave them as they end."""

    def __init__(self) -> None:
        self.base = load(BASE)
        self.host = Host(self.base, Shape(SEATS, lanes=2 * SEATS, max_rank=8, max_prompt=0))

    def open(self, name: str) -> None:
        self.host.open(name, CONFIGS[name].build(self.base, TASK, 0), 0)

    def scores(self, names: list[str]) -> dict[str, float]:
        self.host.run(dict.fromkeys(names, "round"))
        return {name: one.score for name, one in self.host.run(dict.fromkeys(names, "evaluate")).items()}

    def close(self, name: str) -> None:
        self.host.close(name)


class Peft:
    """Each trial puts PEFT's modules into the base for its round, and takes them out again."""

    def __init__(self) -> None:
        self.base = load(BASE)
        self.states: dict[str, bytes] = {}

    def open(self, name: str) -> None:
        pass

    def scores(self, names: list[str]) -> dict[str, float]:
        return {name: self._score(name) for name in names}

    def _score(self, name: str) -> float:
        learner = CONFIGS[name].build(self.base, TASK, 0)
        trial = with_peft(self.base, lora_config(self.base, learner.adapter), learner, 0)
        if name in self.states:
            trial.load(self.states[name])
        trial.round()
        score = trial.evaluate().score
        self.states[name] = trial.state()
        trial.close()
        return score

    def close(self, name: str) -> None:
        del self.states[name]


def swept(way: Any) -> list[Said]:
    """All trials, `SEATS` at a time, as ASHA stops them; what was said of them, in order."""
    sweep = Sweep(
        "asha", [Pair(LoraConfig(), TASK, BASE)], SPACE, len(CONFIGS), rounds=ROUNDS, grace_period=1, reduction_factor=2
    )
    asha, waiting = stopping_asha(sweep), iter(CONFIGS)
    asha.set_search_properties("score", "max")
    going: dict[str, Trial] = {}
    heard: list[Said] = []

    def admitted(count: int) -> Iterator[str]:
        for name in islice(waiting, count):
            way.open(name)
            asha.on_trial_add(None, trial := Trial("trainable", trial_id=name, stub=True))
            going[name] = trial
            yield name

    while [*going, *admitted(SEATS - len(going))]:
        for name, score in way.scores([*going]).items():
            round_ = 1 + sum(own == name for own, *_ in heard)
            said = asha.on_trial_result(None, going[name], {"training_iteration": round_, "score": score})
            heard.append((name, round_, score, said))
            if said == TrialScheduler.STOP:
                del going[name]
                way.close(name)
    return heard


def ranked(heard: list[Said]) -> list[tuple[int, float, str]]:
    """The furthest first, and of those the best."""
    last = {name: (round_, score, name) for name, round_, score, _ in heard}
    return sorted(last.values(), reverse=True)


def test_asha_ranks_and_stops_trials_alike_packed_and_in_peft() -> None:
    packed = swept(Packed())
    rounds = [row[0] for row in ranked(packed)]
    assert len(rounds) == len(CONFIGS)
    assert {1, ROUNDS} <= {*rounds}, "ASHA must have stopped some, and not all"
    assert len({row[1] for row in ranked(packed)}) > 6, "trials must be told apart"
    peft = swept(Peft())
    assert peft == packed
    assert ranked(peft) == ranked(packed)
