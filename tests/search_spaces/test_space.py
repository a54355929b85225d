"""Spaces: their algebra, what they suggest at both ends, and that a file gives back what was saved."""

from __future__ import annotations

import copy
import pickle
import tempfile
from importlib import import_module
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from search_spaces import (
    cot,
    dpo,
    efe,
    grpo,
    hybrid,
    lora,
    lora_ttt,
    models,
    optimizer,
    phases,
    qlora,
    sft,
    soft_prompt,
)
from search_spaces.axis import SpaceError
from search_spaces.space import Space
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.lm.cot import CotConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.phases import PhasesConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.options import limits

RATE, RANK, ALPHA = (
    FloatDistribution(1e-4, 1e-2, log=True),
    CategoricalDistribution((4, 8)),
    IntDistribution(4, 32, step=4),
)
SMALL = Space({"learning_rate": RATE, "r": RANK, "lora_alpha": ALPHA}).given("lora_alpha", r=8)
LEARNERS = Space({"learner": CategoricalDistribution(("lora", "soft_prompt"))})
JOINED = LEARNERS | SMALL.when(learner="lora") | Space({"learning_rate": RATE}).when(learner="soft_prompt")
SHIPPED = {"lora": lora.SPACE, "soft_prompt": soft_prompt.SPACE, "hybrid": hybrid.SPACE, "optimizer": optimizer.SPACE}
SHIPPED |= {"lora_ttt": lora_ttt.SPACE, "efe": efe.SPACE, "qlora": qlora.SPACE, "sft": sft.SPACE}
SHIPPED |= {"cot": cot.SPACE, "dpo": dpo.SPACE, "phases": phases.SPACE, "grpo": grpo.SPACE}


@pytest.mark.parametrize("space", SHIPPED.values(), ids=SHIPPED)
@pytest.mark.parametrize("end", [0, -1], ids=["low", "high"])
def test_a_shipped_space_suggests_and_accepts_both_ends(space: Space, end: int) -> None:
    ends = {
        name: (d.choices[end] if isinstance(d, CategoricalDistribution) else (d.low, d.high)[end])
        for name, d in space.axes.items()
    }
    suggested = space.suggest(FixedTrial(ends))
    assert suggested.items() <= ends.items()
    assert {*ends} - {*suggested} <= {*space.conditions}  # what depends on an axis whose end leaves it out
    assert space.contains(suggested)


def test_what_opens_an_axis_passes_every_condition_on_the_way() -> None:
    space = Space({name: CategoricalDistribution((1, 2, 3)) for name in "abc"})
    space = space.given("a", b=(1, 2), c=(2, 3)).given("b", c=(1, 2))
    assert space.opening("a") == {"b": (1, 2), "c": (2,)}
    assert space.opening("b") == {"c": (1, 2)}
    assert space.opening("c") == {}
    assert space.fix(c=3).opening("a") == {"b": (1, 2), "c": ()}  # nothing that b needs is left
    assert space.fix(b=2).opening("a") == {"b": (2,), "c": (2,)}


def test_optuna_samples_only_active_axes_and_remembers_the_same_distributions() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(30):
        trial = study.ask()
        values = JOINED.suggest(trial)
        JOINED.validate(values)
        assert values == trial.params
        assert trial.distributions == {name: JOINED.axes[name] for name in values}
        seen.add(tuple(sorted(values)))
    assert seen == {
        ("learner", "soft_prompt.learning_rate"),
        ("learner", "lora.learning_rate", "lora.r"),
        ("learner", "lora.learning_rate", "lora.lora_alpha", "lora.r"),
    }


def test_parents_are_asked_before_their_children_whatever_their_order() -> None:
    child_first = Space({"lora_alpha": ALPHA, "r": RANK}).given("lora_alpha", r=(8,))
    assert list(child_first.suggest(FixedTrial({"lora_alpha": 4, "r": 8}))) == ["r", "lora_alpha"]
    assert child_first.suggest(FixedTrial({"r": 4})) == {"r": 4}


def test_the_algebra_leaves_the_original_alone() -> None:
    before = str(SMALL)
    assert SMALL.replace(learning_rate=ALPHA).axes["learning_rate"] == ALPHA
    assert list(SMALL.without("lora_alpha", "r").axes) == ["learning_rate"]
    assert SMALL.fix(r=8).suggest(FixedTrial({"learning_rate": 1e-3, "r": 8, "lora_alpha": 16}))["r"] == 8
    assert len(SMALL | Space({"weight_decay": RATE})) == 4
    assert str(SMALL) == before
    with pytest.raises(TypeError):
        SMALL.axes["r"] = RANK  # type: ignore[index]


def test_a_fixed_axis_is_a_constant_that_stays_in_the_parameters() -> None:
    fixed = SMALL.fix(r=2, learning_rate=0.5)  # outside the searched range on purpose: the user says so
    trial = optuna.create_study().ask()
    assert fixed.suggest(trial) == {"learning_rate": 0.5, "r": 2} == trial.params


def test_when_keeps_inner_conditions_under_the_prefix() -> None:
    assert JOINED.conditions["lora.lora_alpha"] == {"learner": ("lora",), "lora.r": (8,)}


@pytest.mark.parametrize("space", [SMALL, JOINED, *SHIPPED.values()])
def test_copies_are_equal(space: Space) -> None:
    assert pickle.loads(pickle.dumps(space)) == space == copy.deepcopy(space)


OK = {"learning_rate": 1e-3, "r": 4}
BAD = {
    "join": (lambda: SMALL | Space({"r": RANK}), ["['r']", ".without('r')"]),
    "replace": (lambda: SMALL.replace(lr=RATE), ["'lr'", "['learning_rate', 'r', 'lora_alpha']"]),
    "without": (lambda: SMALL.without("lr"), ["'lr'", "learning_rate"]),
    "without a parent": (lambda: SMALL.without("r"), ["'r'", "['lora_alpha']", ".fix"]),
    "fix": (lambda: SMALL.fix(lr=1), ["'lr'", "learning_rate"]),
    "fix with a list": (lambda: SMALL.fix(r=[4]), ["'r'", "[4]", "numbers"]),
    "given": (lambda: SMALL.given("lr", r=4), ["'lr'", "learning_rate"]),
    "impossible condition": (lambda: SMALL.given("learning_rate", r=5), ["'r' = [5]", "{4, 8}"]),
    "circle": (lambda: SMALL.given("r", lora_alpha=4), ["'r'", "'lora_alpha'", "circle"]),
    "when twice": (lambda: SMALL.when(learner="lora", base="x"), ["when", "'base'"]),
    "no gate yet": (lambda: SMALL.when(learner="lora").validate({}), ["'learner'", "join"]),
    "slash": (lambda: Space({"a/b": RATE}), ["'a/b'", "'/'"]),
    "no distribution": (lambda: Space({"a": 3}), ["'a'", "3", ".fix(a="]),  # type: ignore[dict-item]
    "too high": (lambda: SMALL.validate(OK | {"learning_rate": 0.5}), ["'learning_rate' = 0.5", "[0.0001, 0.01] log"]),
    "NaN": (lambda: SMALL.validate(OK | {"learning_rate": float("nan")}), ["nan", "[0.0001, 0.01]"]),
    "not a choice": (lambda: SMALL.validate(OK | {"r": 5}), ["'r' = 5", "{4, 8}", ".replace(r="]),
    "off the step": (lambda: SMALL.validate({**OK, "r": 8, "lora_alpha": 7}), ["'lora_alpha' = 7", "step 4"]),
    "True is no number": (lambda: SMALL.validate({**OK, "r": 8, "lora_alpha": True}), ["True", "[4, 32]"]),
    "missing": (lambda: SMALL.validate({"r": 4}), ["'learning_rate'", "[0.0001, 0.01]"]),
    "inactive": (lambda: SMALL.validate(OK | {"lora_alpha": 8}), ["'lora_alpha' = 8", "r in [8]", "remove"]),
    "unknown": (lambda: SMALL.validate(OK | {"lr": 1}), ["'lr'", "learning_rate"]),
}


@pytest.mark.filterwarnings("ignore:Choices for a categorical")  # Optuna warns of a list before we refuse it
@pytest.mark.parametrize(("attempt", "texts"), BAD.values(), ids=BAD)
def test_errors_name_value_bound_and_remedy_in_one_line(attempt, texts: list[str]) -> None:
    with pytest.raises(SpaceError) as error:
        attempt()
    message = str(error.value)
    assert "\n" not in message
    assert all(text in message for text in texts), message


NUMBERS = st.floats(1e-6, 1e6)
WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/"), min_size=1, max_size=12)
INTS = st.integers(1, 10**6)
DISTRIBUTIONS = st.one_of(
    st.builds(lambda a, b, log: FloatDistribution(min(a, b), max(a, b), log=log), NUMBERS, NUMBERS, st.booleans()),
    st.builds(lambda low, n, step: FloatDistribution(low, low + n * step, step=step), INTS, st.integers(0, 9), INTS),
    st.builds(lambda a, b, log: IntDistribution(min(a, b), max(a, b), log=log), INTS, INTS, st.booleans()),
    st.builds(lambda low, n, step: IntDistribution(low, low + n * step, step=step), INTS, st.integers(0, 9), INTS),
    st.lists(st.one_of(WORDS, INTS, NUMBERS, st.booleans(), st.none()), min_size=1, max_size=4).map(
        CategoricalDistribution
    ),
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(WORDS, DISTRIBUTIONS, max_size=4), st.booleans())
def test_yaml_gives_back_the_same_space(axes: dict, gated: bool) -> None:
    space = Space(axes)
    if gated:
        space = Space({"gate": CategoricalDistribution(("on", "off"))}) | space.when(gate="on")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        space.to_yaml(path)
        back = Space.from_yaml(path)
    assert back == space
    assert list(back.axes) == list(space.axes)
    assert str(back) == str(space)


def test_a_hand_written_file_may_say_1e_4(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("axes:\n  learning_rate: {type: float, low: 1e-4, high: 1e-2, log: true}\n")
    assert Space.from_yaml(path).axes["learning_rate"] == RATE


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "axes: [1]", "axes: {r: {type: cat}}", "axes: {r: {type: int, low: 4}}", "axes: {r: ]", "\x00"],
)
def test_a_file_that_is_no_space_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(SpaceError, match="is not a space") as error:
        Space.from_yaml(path)
    assert "\n" not in str(error.value)


def test_fit_lowers_upper_ends_for_a_larger_base_and_nothing_else() -> None:
    fitted = models.fit(hybrid.SPACE, limits(HybridConfig()), "TinyLlama/TinyLlama-1.1B-Chat-v1.0:nf4")
    assert fitted.axes["learning_rate"] == FloatDistribution(1e-4, 5e-3, log=True)
    assert fitted.axes["prompt_learning_rate"] == FloatDistribution(1e-3, 1e-1, log=True)
    changed = {name for name in fitted.axes if fitted.axes[name] != hybrid.SPACE.axes[name]}
    assert changed == {"learning_rate", "prompt_learning_rate"}
    assert models.fit(fitted, limits(HybridConfig()), "TinyLlama-1.1B") == fitted


def test_fit_knows_what_each_learner_s_rate_moves() -> None:
    """By hand, for a base of 4,096: rates of weights, of prompts, and of what does not act inside the base."""
    base = "meta-llama/Llama-3.1-8B-Instruct:nf4"
    rates = {"lora": 3e-3, "cot": 3e-3, "full": 3e-3, "soft_prompt": 5e-2, "dpo": 1e-4, "ia3": 3e-1, "percell": 2e-2}
    kinds = (LoraConfig, CotConfig, FullConfig, SoftPromptConfig, DpoConfig, Ia3Config, PercellConfig)
    bounded = {kind.name: limits(kind()) for kind in kinds}
    for learner, rate in rates.items():
        space = import_module(f"search_spaces.{learner}").SPACE
        assert models.fit(space, bounded[learner], base).axes["learning_rate"].high == rate, learner
    fitted = models.fit(phases.SPACE, limits(PhasesConfig()), base)
    assert [fitted.axes[f"{phase}learning_rate"].high for phase in ("", "cot_", "dpo_")] == [3e-3, 3e-3, 1e-4]


def test_fit_keeps_ranks_within_the_hidden_size() -> None:
    ranks = Space({"r": CategoricalDistribution((8, 512, 1024)), "lora_alpha": CategoricalDistribution((8, 2048))})
    narrowed = ranks.replace(r=CategoricalDistribution((8, 512)))
    assert models.fit(ranks, limits(LoraConfig()), "SmolLM2-135M") == narrowed  # hidden size 576
    assert models.fit(ranks.fix(r=1024), limits(LoraConfig()), "SmolLM2-135M") == ranks.fix(r=1024)
    with pytest.raises(SpaceError, match="576"):
        models.fit(ranks.replace(r=IntDistribution(600, 700)), limits(LoraConfig()), "SmolLM2-135M")


@pytest.mark.parametrize("base", ["builtin:tiny", "none", "somebody/else-13b"])
def test_fit_leaves_unknown_bases_alone(base: str) -> None:
    assert models.fit(lora.SPACE, limits(LoraConfig()), base) is lora.SPACE


def test_the_first_matching_row_is_the_most_particular() -> None:
    names = list(models.BASES)
    assert not [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if a in b]


def test_a_branch_of_a_joined_space_is_the_space_that_was_joined() -> None:
    own = Space({"mode": CategoricalDistribution(("a", "b")), "x": FloatDistribution(0, 1)}).given("x", mode="a")
    other = Space({"x": FloatDistribution(2, 3)})
    joined = Space({"learner": CategoricalDistribution(("lora", "lora2"))})
    joined = joined | own.when(learner="lora") | other.when(learner="lora2")
    assert (joined.branch(learner="lora"), joined.branch(learner="lora2")) == (own, other)
    with pytest.raises(SpaceError, match="branch takes one axis"):
        joined.branch()
