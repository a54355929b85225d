"""`Sweep.validate`: whatever would fail later is refused in one line first, and what is good passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import hybrid, lora, soft_prompt
from search_spaces.axis import inside
from search_spaces.space import Space
from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.results.trial_params import TrialParams
from sweeps.spec.config_fields import drawn
from sweeps.spec.sweep import Sweep
from sweeps.strategyqa import SWEEP as STRATEGYQA
from sweeps.style import SWEEP as STYLE
from tests.support.knobs import ONE, RATE, TWO, Dial, Knob
from tests.support.toys import Letters
from trainables.bad_input import BadInput
from trainables.core import Adapter, Pair
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig


@dataclass(frozen=True)
class Idle(LoraConfig):
    """Adapts nothing."""

    def adapter(self) -> Adapter:
        return Adapter()


@dataclass(frozen=True)
class Geared(Knob):
    """A decay asks for the flag, and a mode for a decay, as terms of a loss may ask for what they act on."""

    def __post_init__(self) -> None:
        if self.decay is not None and not self.flag:
            raise ValueError(f"decay is {self.decay}, and flag is off; turn it on")
        if self.mode == "b" and self.decay is None:
            raise ValueError("mode is 'b', and there is no decay; give one")


@dataclass(frozen=True)
class Pacer(Knob):
    """Takes every size up to ten, but none above its passes."""

    size: int = 1
    passes: int = 10

    def __post_init__(self) -> None:
        if self.size > self.passes:
            raise ValueError(f"size is {self.size}, above passes = {self.passes}; lower it")


@dataclass(frozen=True)
class Odd(Letters):
    """Letters whose splits are wrong in a chosen way."""

    fault: str = ""

    def search(self):
        if self.fault == "unreadable":
            raise ValueError("data.json: not valid JSON\nat line 3; repair it")
        if self.fault == "empty":
            return ()
        return self._examples(100)


def with_task(fault: str) -> Sweep:
    return replace(ONE, pairs=(Pair(Knob(), Odd(fault=fault)),))


def with_axis(name: str, distribution: Any) -> Sweep:
    return replace(ONE, space=Space({name: distribution}))


def geared(**conditions: Any) -> Sweep:
    """A sweep over axes that suit the learner's defaults only under conditions, given as axis={parent: values}."""
    space = Space({"decay": C((None, 0.1)), "mode": C(("a", "b")), "flag": C((False, True))})
    for axis, parents in conditions.items():
        space = space.given(axis, **parents)
    return replace(ONE, pairs=(Pair(Geared(), Odd()),), space=space)


def paced(most: int) -> Sweep:
    """Sizes from 1 to 5 with passes from 1 to `most`."""
    space = Space({"size": I(1, 5), "passes": I(1, most)})
    return replace(ONE, pairs=(Pair(Pacer(), Odd()),), space=space)


C, F, I = CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E741
BAD: dict[str, tuple[Sweep, list[str]]] = {
    "unknown axis": (with_axis("lr", F(0.1, 0.2)), ["axis 'lr' is not a field of Knob; fields are ['rate', 'size'"]),
    "outside the learner's range": (with_axis("rate", F(0.1, 1.5)), ["'rate' in [0.1, 1.5]", "1.5", "between 0 and 1"]),
    "float axis of an int": (with_axis("size", F(1, 8)), ["'size' in [1", "Knob.size is int", ".replace(size=...)"]),
    "text axis of a float": (with_axis("rate", C(("high",))), ["'high'", "Knob.rate is float"]),
    "number axis of a flag": (with_axis("flag", C((0, 1))), ["gives 0", "Knob.flag is bool"]),
    "not one of the literals": (with_axis("mode", C(("a", "c"))), ["'c'", "one of ['a', 'b']"]),
    "axis of a tuple": (with_axis("targets", C(("q",))), ["'q'", "Knob.targets"]),
    "a value that asks for another": (geared(), ["'decay' in {None, 0.1} reaches 0.1", "flag is off; turn it on"]),
    "a condition that does not help": (geared(decay={"flag": False}), ["reaches 0.1", "flag is off; turn it on"]),
    "a condition that helps only with another": (
        geared(decay={"flag": True}, mode={"flag": True}),
        ["'mode' in {'a', 'b'} reaches 'b'", "there is no decay; give one"],
    ),
    "values that seldom go together": (
        paced(2),
        ["knob refuses", "% of the configurations", "such as size=", "above passes = ", "lower it", "--set"],
    ),
    "a gate that is not there": (replace(ONE, space=RATE.when(learner="knob")), ["'knob.rate'", "fields are"]),
    "nothing to train": (
        replace(ARENA, pairs=(Pair(Idle(), ARENA.pairs[0].task, "builtin:tiny"),), optional=(), space=Space({})),
        ["learner 'lora' has no trainable parameter", "rank"],
    ),
    "zero samples": (replace(ONE, num_samples=0), ["num_samples is 0", "at least 1"]),
    "fractional samples": (replace(ONE, num_samples=1.5), ["num_samples is 1.5", "whole"]),  # type: ignore[arg-type]
    "zero rounds": (replace(ONE, rounds=0), ["rounds is 0", "at least 1"]),
    "late grace": (replace(ONE, rounds=3, grace_period=4), ["grace_period is 4", "rounds = 3", "lower it"]),
    "zero grace": (replace(ONE, grace_period=0), ["grace_period is 0", "at least 1"]),
    "reduction": (replace(ONE, reduction_factor=1), ["reduction_factor is 1", "at least 2"]),
    "seed": (replace(ONE, seed=-1), ["seed is -1", "at least 0"]),
    "large seed": (replace(ONE, seed=2**32), ["seed is 4294967296", "below 2**32"]),
    "search": (replace(ONE, search="grid"), ["search is 'grid'", "'tpe', 'random' or 'nsga2'"]),  # type: ignore[arg-type]
    "concurrent": (replace(ONE, max_concurrent_trials=0), ["max_concurrent_trials is 0", "at least 1"]),
    "seats": (replace(ONE, seats=0), ["seats is 0", "at least 1"]),
    "budget": (replace(ONE, time_budget_s=0), ["time_budget_s is 0", "above 0"]),
    "minutes": (replace(ONE, minutes=-1.0), ["minutes is -1", "above 0"]),
    "two limits": (
        replace(ONE, minutes=5.0, time_budget_s=60.0),
        ["minutes is 5 beside time_budget_s = 60", "only one"],
    ),
    "no clock": (
        replace(ONE, minutes=5.0, scheduler="stopping"),
        ["minutes is 5", "--scheduler stopping", "leave one"],
    ),
    "less work than a training": (replace(ONE, budget=0.5), ["budget is 0.5", "at least 1"]),
    "a budget that nothing keeps": (replace(ONE, budget=4, scheduler="stopping"), ["budget is 4", "stopping"]),
    "resources": (replace(ONE, resources_per_trial={"cpu": -1}), ["'cpu'", "-1", "at least 0"]),
    "one and a half devices": (replace(ONE, resources_per_trial={"gpu": 1.5}), ["'gpu'", "1.5", "use 2"]),
    "name": (replace(ONE, name="../x"), ["'../x'", "letters"]),
    "empty name": (replace(ONE, name=""), ["''", "letters"]),
    "no pairs": (replace(ONE, pairs=()), ["pairs is empty", "Pair("]),
    "twice": (replace(TWO, optional=(Pair(Knob(), Letters()),)), ["'knob' is in 2 pairs", "keep one"]),
    "no base": (
        replace(ONE, pairs=(Pair(LoraConfig(), Letters()),), space=lora.SPACE),
        ["'lora'", "'none'", "--base builtin:tiny"],
    ),
    "a learner of another task": (
        replace(ONE, pairs=(Pair(PercellConfig(), Letters()),), space=Space({})),
        ["'percell' is for the task 'arc'", "not with 'letters'"],
    ),
    "no space": (replace(TWO, space={"knob": RATE}), ["'dial' has no Space", "['knob']"]),
    "a space too many": (replace(ONE, space={"knob": RATE, "konb": RATE}), ["'konb'", "['knob']"]),
    "empty split": (with_task("empty"), ["'letters'", "search split is empty"]),
    "unreadable": (with_task("unreadable"), ["'search'", "data.json: not valid JSON at line 3"]),
}


@pytest.mark.parametrize(("sweep", "texts"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(sweep: Sweep, texts: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        sweep.validate()
    message = str(error.value)
    assert "\n" not in message
    assert all(text in message for text in texts), message


PLAIN = replace(ONE, pairs=(Pair(Knob(), Odd()),))
DIAL = Pair(Dial(), Odd())
MIXED = Space({"decay": C((None, 0.1)), "mode": C(("a", "b")), "flag": C((True,)), "size": I(1, 3)})
RESOURCES = {"time_budget_s": 1.5, "max_concurrent_trials": 2, "resources_per_trial": {"cpu": 0.5, "gpu": 0.25}}
WHOLE = {"resources_per_trial": {"cpu": 2, "gpu": 2}, "grace_period": 8, "search": "random"}
RATE_ONLY = [{"rate": 0.1}]

# name -> the sweep, the rounds that every trial is granted, the configurations that are tried first
GOOD: dict[str, tuple[Sweep, int, list[dict[str, Any]]]] = {
    "plain": (PLAIN, 1, RATE_ONLY),
    "parts of devices": (replace(PLAIN, **RESOURCES), 1, RATE_ONLY),
    "grace to the last round": (replace(PLAIN, **WHOLE), 8, RATE_ONLY),
    "two defaults outside their ranges": (replace(PLAIN, space=MIXED), 1, [{"decay": None, "mode": "a"}]),
    "conditions of conditions": (
        geared(decay={"flag": True}, mode={"decay": 0.1}),
        1,
        [{"flag": False}],
    ),
    "values that mostly go together": (paced(10), 1, [{"size": 1, "passes": 10}]),
    "two learners": (
        replace(TWO, pairs=(*PLAIN.pairs, DIAL), rounds=16),
        2,
        [{"learner": "knob", "knob.rate": 0.1}, {"learner": "dial", "dial.rate": 0.1, "dial.depth": 1}],
    ),
    "a learner that is only optional": (
        replace(PLAIN, optional=(DIAL,), space={"knob": RATE, "dial": RATE}),
        1,
        RATE_ONLY,
    ),
}


@pytest.mark.parametrize(("sweep", "grace", "first"), GOOD.values(), ids=GOOD)
def test_good_sweeps_pass(sweep: Sweep, grace: int, first: list[dict[str, Any]]) -> None:
    """They pass, ASHA spares every trial for `grace` rounds, and each learner is tried as it was configured."""
    sweep.validate()
    assert sweep.effective_grace_period() == grace
    assert [params.flat(sweep.pair_names) for params in sweep.defaults()] == first
    axes = sweep.joined_space().axes
    assert all(inside(axes[name], value) for params in first for name, value in params.items())
    assert [sweep.resolve(params) for params in sweep.defaults()] == list(sweep.pairs)


@pytest.mark.parametrize("config", [LoraConfig, SoftPromptConfig, HybridConfig])
def test_the_shipped_spaces_fit_their_learners(config: Any) -> None:
    spaces = {"lora": lora.SPACE, "soft_prompt": soft_prompt.SPACE, "hybrid": hybrid.SPACE}
    sweep = replace(ONE, pairs=(Pair(config(), Odd(), "builtin:tiny"),), space=spaces[config.name])
    sweep.validate()
    assert set(sweep.defaults()[0].fields) == set(spaces[config.name].axes)  # the default configuration lies inside


SHIPPED = [ARC, ARENA, STYLE, *STRATEGYQA.phases.values(), *STRATEGYQA.optional.values()]


@pytest.mark.parametrize("sweep", SHIPPED, ids=lambda one: one.name)
def test_every_draw_of_a_shipped_script_is_a_configuration(sweep: Sweep) -> None:
    """Conditions of an axis must exclude combinations that the learner refuses: `alignment` without features, say."""
    for pair in (*sweep.pairs, *sweep.optional):
        one = replace(sweep, pairs=(pair,), optional=())
        configurations = list(drawn(one.joined_space(), 200))
        assert all(one.resolve(TrialParams(pair.learner.name, params)).learner for params in configurations)
        assert {name for params in configurations for name in params} == {*one.joined_space().axes}
