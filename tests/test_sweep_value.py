"""The `Sweep` value: what it resolves to, and that whatever would fail later is refused in one line first."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import hybrid, lora, soft_prompt
from search_spaces.space import Space
from sweeps.engine.sweep import BadInput, Sweep, data_fingerprint
from tests.toys import Letters
from trainables.core import Pair
from trainables.learners.hybrid import HybridConfig
from trainables.learners.lora import LoraConfig
from trainables.learners.soft_prompt import SoftPromptConfig


@dataclass(frozen=True)
class Knob:
    """A learner's configuration, with a field of every type that an axis may have."""

    name: ClassVar[str] = "knob"
    needs_base: ClassVar[bool] = False
    rate: float = 0.1
    size: int = 4
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    decay: float | None = None
    targets: tuple[str, ...] = ()
    passes: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}; it must lie between 0 and 1")

    def build(self, base: Any, task: Any, seed: int) -> Any:
        raise NotImplementedError

    def rounds_per_pass(self, task: Any) -> int:
        return self.passes


@dataclass(frozen=True)
class Dial(Knob):
    name: ClassVar[str] = "dial"
    passes: int = 5
    depth: int = 1


RATE = Space({"rate": FloatDistribution(0.01, 0.5)})
ONE = Sweep(name="one", pairs=(Pair(Knob(), Letters()),), space=RATE)
TWO = replace(
    ONE,
    pairs=(Pair(Knob(), Letters()), Pair(Dial(rate=0.2), Letters())),
    space={"knob": RATE, "dial": RATE | Space({"depth": IntDistribution(1, 3)})},
)


@dataclass(frozen=True)
class Odd(Letters):
    """Letters whose splits are wrong in a chosen way."""

    fault: str = ""

    def search(self):
        if self.fault == "unreadable":
            raise ValueError("data.json: not valid JSON\nat line 3; repair it")
        if self.fault == "empty":
            return ()
        return self.train()[:1] if self.fault == "overlap" else self._examples(100)


def with_task(fault: str) -> Sweep:
    return replace(ONE, pairs=(Pair(Knob(), Odd(fault=fault)),))


def with_axis(name: str, distribution: Any) -> Sweep:
    return replace(ONE, space=Space({name: distribution}))


C, F, I = CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E741
BAD: dict[str, tuple[Sweep, list[str]]] = {
    "unknown axis": (with_axis("lr", F(0.1, 0.2)), ["axis 'lr' is not a field of Knob; fields are ['rate', 'size'"]),
    "outside the learner's range": (with_axis("rate", F(0.1, 1.5)), ["'rate' in [0.1, 1.5]", "1.5", "between 0 and 1"]),
    "float axis of an int": (with_axis("size", F(1, 8)), ["'size' in [1", "Knob.size is int", ".replace(size=...)"]),
    "text axis of a float": (with_axis("rate", C(("high",))), ["'high'", "Knob.rate is float"]),
    "number axis of a flag": (with_axis("flag", C((0, 1))), ["gives 0", "Knob.flag is bool"]),
    "not one of the literals": (with_axis("mode", C(("a", "c"))), ["'c'", "one of ['a', 'b']"]),
    "axis of a tuple": (with_axis("targets", C(("q",))), ["'q'", "Knob.targets"]),
    "a gate that is not there": (replace(ONE, space=RATE.when(learner="knob")), ["'knob.rate'", "fields are"]),
    "zero samples": (replace(ONE, num_samples=0), ["num_samples is 0", "at least 1"]),
    "fractional samples": (replace(ONE, num_samples=1.5), ["num_samples is 1.5", "whole"]),  # type: ignore[arg-type]
    "zero rounds": (replace(ONE, rounds=0), ["rounds is 0", "at least 1"]),
    "late grace": (replace(ONE, rounds=3, grace_period=4), ["grace_period is 4", "rounds = 3", "lower it"]),
    "zero grace": (replace(ONE, grace_period=0), ["grace_period is 0", "at least 1"]),
    "reduction": (replace(ONE, reduction_factor=1), ["reduction_factor is 1", "at least 2"]),
    "seed": (replace(ONE, seed=-1), ["seed is -1", "at least 0"]),
    "large seed": (replace(ONE, seed=2**32), ["seed is 4294967296", "below 2**32"]),
    "search": (replace(ONE, search="grid"), ["search is 'grid'", "'tpe' or 'random'"]),  # type: ignore[arg-type]
    "concurrent": (replace(ONE, max_concurrent_trials=0), ["max_concurrent_trials is 0", "at least 1"]),
    "seats": (replace(ONE, seats=0), ["seats is 0", "at least 1"]),
    "budget": (replace(ONE, time_budget_s=0), ["time_budget_s is 0", "above 0"]),
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
    "no space": (replace(TWO, space={"knob": RATE}), ["'dial' has no Space", "['knob']"]),
    "a space too many": (replace(ONE, space={"knob": RATE, "konb": RATE}), ["'konb'", "['knob']"]),
    "empty split": (with_task("empty"), ["'letters'", "search split is empty"]),
    "overlap": (with_task("overlap"), ["train and search overlap", "key 'letter/0' ('a?')", "one split"]),
    "unreadable": (with_task("unreadable"), ["'search'", "data.json: not valid JSON at line 3"]),
}


@pytest.mark.parametrize(("sweep", "texts"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line(sweep: Sweep, texts: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        sweep.validate()
    message = str(error.value)
    assert "\n" not in message
    assert all(text in message for text in texts), message


def good_task() -> Pair:
    return Pair(Knob(), Odd())


GOOD = replace(ONE, pairs=(good_task(),))


@pytest.mark.parametrize(
    "sweep",
    [
        GOOD,
        replace(GOOD, time_budget_s=1.5, max_concurrent_trials=2, resources_per_trial={"cpu": 0.5, "gpu": 0.25}),
        replace(GOOD, resources_per_trial={"cpu": 2, "gpu": 2}, grace_period=8, search="random"),
        replace(
            GOOD, space=Space({"decay": C((None, 0.1)), "mode": C(("a", "b")), "flag": C((True,)), "size": I(1, 3)})
        ),
        replace(TWO, pairs=(good_task(), Pair(Dial(), Odd()))),
        replace(GOOD, optional=(Pair(Dial(), Odd()),), space={"knob": RATE, "dial": RATE}),
    ],
)
def test_good_sweeps_pass(sweep: Sweep) -> None:
    sweep.validate()


@pytest.mark.parametrize("config", [LoraConfig, SoftPromptConfig, HybridConfig])
def test_the_shipped_spaces_fit_their_learners(config: Any) -> None:
    spaces = {"lora": lora.SPACE, "soft_prompt": soft_prompt.SPACE, "hybrid": hybrid.SPACE}
    sweep = replace(GOOD, pairs=(Pair(config(), Odd(), "builtin:tiny"),), space=spaces[config.name])
    sweep.validate()
    assert set(sweep.defaults()[0]) == set(spaces[config.name].axes)  # the default configuration lies inside


def test_one_pair_keeps_plain_names() -> None:
    pair, fields = ONE.resolve({"rate": 0.3})
    assert ONE.joined_space() == RATE
    assert (pair.learner, fields) == (Knob(rate=0.3), {"rate": 0.3})
    assert ONE.pairs[0].learner.rate == 0.1


def test_several_pairs_are_told_apart_by_an_axis() -> None:
    assert list(TWO.joined_space().axes) == ["learner", "knob.rate", "dial.rate", "dial.depth"]
    pair, fields = TWO.resolve({"learner": "dial", "dial.rate": 0.3, "dial.depth": 2})
    assert (pair.learner, fields) == (Dial(rate=0.3, depth=2), {"rate": 0.3, "depth": 2})
    assert TWO.defaults() == [
        {"learner": "knob", "knob.rate": 0.1},
        {"learner": "dial", "dial.rate": 0.2, "dial.depth": 1},
    ]
    assert all(TWO.joined_space().contains(params) for params in TWO.defaults())


def test_a_default_outside_its_range_is_left_to_the_sampler_with_what_hangs_on_it() -> None:
    space = RATE | Space({"size": I(8, 16), "mode": C(("a", "b"))}).given("mode", size=8)
    assert replace(ONE, space=space).defaults() == [{"rate": 0.1}]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"learner": "konb"}, "learner 'konb' is not in this sweep; learners are"),
        ({"learner": "knob", "knob.lr": 1}, "axis 'lr' is not a field of Knob"),
        ({"learner": "knob", "knob.rate": 7}, "rate is 7; it must lie between 0 and 1"),
    ],
)
def test_parameters_that_fit_no_pair_are_refused(params: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        TWO.resolve(params)


def test_fix_sets_a_field_everywhere_or_for_one_learner() -> None:
    fixed = TWO.fix({"rate": "1e-1", "dial.depth": 9, "flag": True})
    space = fixed.joined_space()
    values = {name: distribution.choices for name, distribution in space.axes.items()}  # type: ignore[attr-defined]
    assert values == {
        "learner": ("knob", "dial"),
        "knob.rate": (0.1,),
        "knob.flag": (True,),
        "dial.rate": (0.1,),
        "dial.depth": (9,),
        "dial.flag": (True,),
    }
    assert TWO.fix({}) is TWO


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"lr": 1}, "axis 'lr' is not a field of any learner of this sweep; fields are"),
        ({"konb.rate": 0.1}, "axis 'konb.rate' is not a field"),
        ({"rate": "fast"}, "rate is 'fast', and Knob.rate is float"),
        ({"rate": 4}, "rate is 4; it must lie between 0 and 1"),
        ({"size": 1.5}, "size is 1.5, and Knob.size is int"),
    ],
)
def test_fix_refuses_what_no_learner_takes(values: dict[str, Any], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        TWO.fix(values)


@pytest.mark.parametrize(
    ("sweep", "rounds"),
    [(ONE, 2), (TWO, 5), (replace(TWO, rounds=3), 3), (replace(TWO, grace_period=1), 1)],
    ids=["one pass", "the longest pass", "clipped to the rounds", "given"],
)
def test_the_grace_period_covers_one_pass(sweep: Sweep, rounds: int) -> None:
    assert sweep.effective_grace_period() == rounds


def test_a_sweep_travels_and_is_written_down() -> None:
    assert pickle.loads(pickle.dumps(TWO)) == TWO
    plain = TWO.to_dict()
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain == json.loads(json.dumps(plain))
    assert Space.from_dict(plain["space"]) == TWO.joined_space()
    assert plain["grace_period"] == 5
    assert plain["pairs"][1]["learner"] == {
        "name": "dial",
        "class": f"{__name__}.Dial",
        "fields": {
            "rate": 0.2,
            "size": 4,
            "flag": False,
            "mode": "a",
            "decay": None,
            "targets": [],
            "passes": 5,
            "depth": 1,
        },
    }


def test_the_fingerprint_changes_with_the_data_and_only_with_it() -> None:
    same, other = data_fingerprint(Letters()), data_fingerprint(Letters(size=11))
    assert same == data_fingerprint(Letters()) != other
    assert len(same) == 12
    assert int(same, 16) >= 0


def test_another_base_narrows_the_ranges() -> None:
    """`--base` brings the limits of `search_spaces.models`; a base that is not in its table changes nothing."""
    from sweeps.engine.cli import parse
    from sweeps.arena import SWEEP

    def highest(*flags: str) -> float:
        _, sweep = parse(SWEEP, ["--learner", "lora", *flags])
        return sweep.space_of(sweep.pairs[0]).axes["learning_rate"].high

    assert highest() == highest("--base", "nobody/unheard-of") == 2e-2
    assert highest("--base", "Qwen/Qwen2.5-7B-Instruct") < 2e-2
