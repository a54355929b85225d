"""The `Sweep` value: what its pairs, spaces and numbers resolve to."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces import efe, lora
from search_spaces.space import Space
from sweeps.arena import SWEEP as ARENA
from sweeps.persistence.provenance import describe
from sweeps.results.trial_params import TrialParams
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import data_fingerprint
from sweeps.strategyqa import SWEEP as STRATEGYQA
from tests.support.knobs import ONE, RATE, TWO, Dial, Knob
from tests.support.toys import Letters
from trainables.bad_input import BadInput
from trainables.core import Pair
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.tasks.strategyqa.rationale_files import load_rationales
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.tasks.style.task import StyleTask


def test_one_pair_keeps_plain_names() -> None:
    params = TrialParams.from_flat({"rate": 0.3}, "knob")
    pair = ONE.resolve(params)
    assert ONE.joined_space() == RATE
    assert (pair.learner, params) == (Knob(rate=0.3), TrialParams("knob", {"rate": 0.3}))
    assert ONE.pairs[0].learner.rate == 0.1


def test_several_pairs_are_told_apart_by_an_axis() -> None:
    assert list(TWO.joined_space().axes) == ["learner", "knob.rate", "dial.rate", "dial.depth"]
    axes = {"learner": "dial", "dial.rate": 0.3, "dial.depth": 2}
    params = TrialParams.from_flat(axes, "knob")
    assert (TWO.resolve(params).learner, params.fields) == (Dial(rate=0.3, depth=2), {"rate": 0.3, "depth": 2})
    assert params.flat(TWO.pair_names) == axes
    defaults = [params.flat(TWO.pair_names) for params in TWO.defaults()]
    assert defaults == [
        {"learner": "knob", "knob.rate": 0.1},
        {"learner": "dial", "dial.rate": 0.2, "dial.depth": 1},
    ]
    assert all(TWO.joined_space().contains(params) for params in defaults)


def test_a_default_outside_its_range_is_left_to_the_sampler_with_what_hangs_on_it() -> None:
    space = RATE | Space({"size": IntDistribution(8, 16), "mode": CategoricalDistribution(("a", "b"))}).given(
        "mode", size=8
    )
    assert replace(ONE, space=space).defaults() == [TrialParams("knob", {"rate": 0.1})]


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
        TWO.resolve(TrialParams.from_flat(params, "knob"))


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


def test_fix_gives_a_field_of_several_names_to_the_learner() -> None:
    for value in ("q_proj,v_proj", ["q_proj", "v_proj"]):
        fixed = ARENA.fix({"lora.target_modules": value, "soft_prompt.num_virtual_tokens": 4})
        assert [p.learner.target_modules for p in fixed.pairs if p.learner.name == "lora"] == [("q_proj", "v_proj")]
        assert rebuild(yaml.safe_load(yaml.safe_dump(describe(fixed)))).pairs == fixed.pairs
    with pytest.raises(BadInput, match="target_modules is 3; give names with commas between them, as in target_modul"):
        ARENA.fix({"target_modules": 3})


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


PAIR = Pair(EfeConfig(), Letters(), "builtin:tiny")
EFE = replace(ONE, pairs=(PAIR,), space=efe.SPACE)


@pytest.mark.parametrize("values", [{"alignment": 0.2}, {"alignment": 0.2, "features": True}, {"base_multiplier": 0.5}])
def test_fix_takes_what_some_trial_can_use(values: dict[str, Any]) -> None:
    """`alignment` asks for features, which are off unless a trial draws them or they are fixed beside it."""
    axes = EFE.fix(values).joined_space().axes
    assert {name: axes[name].choices for name in values} == {n: (v,) for n, v in values.items()}  # type: ignore[attr-defined]


def test_fix_refuses_what_no_trial_would_use() -> None:
    with pytest.raises(BadInput, match=r"alignment is 0.2, which no trial would use, as features is in \{False\}"):
        EFE.fix({"alignment": 0.2, "features": False})
    without = efe.SPACE.without("alignment", "base_r", "base_multiplier", "features")
    with pytest.raises(BadInput, match=r"alignment is 0\.2, and features are off"):
        replace(EFE, space=without).fix({"alignment": 0.2})


@pytest.mark.parametrize(
    ("rounds", "factor", "rungs"),
    [
        (1, 3, [1]),
        (2, 3, [1, 2]),
        (8, 3, [1, 3, 8]),
        (8, 2, [1, 2, 4, 8]),
        (15, 3, [1, 3, 9, 15]),
        (16, 3, [2, 6, 16]),
        (16, 4, [2, 8, 16]),
        (51, 3, [6, 18, 51]),
    ],
)
def test_the_first_rung_is_after_an_eighth_of_the_rounds(rounds: int, factor: int, rungs: list[int]) -> None:
    sweep = replace(TWO, rounds=rounds, reduction_factor=factor)
    assert sweep.rungs() == rungs
    assert sweep.effective_grace_period() == rungs[0]


def test_a_grace_period_that_is_given_stays_but_several_objectives_run_to_the_end() -> None:
    given = replace(TWO, grace_period=5)
    assert given.rungs() == [5, 8]
    assert replace(given, objectives=("score", "seconds")).rungs() == [8]


JOINT = replace(STRATEGYQA.optional["joint"], rounds=16)


@pytest.mark.parametrize(
    ("fixed", "rounds", "grace"),
    [
        ({}, 16, 4 + 3 + 3),  # sft_rounds is searched from 0 to 4, cot_rounds is 3; three rounds are averaged
        ({"sft_rounds": 1}, 16, 1 + 3 + 3),
        ({"sft_rounds": 0, "cot_rounds": 0}, 16, 2),  # of one phase: an eighth
        ({"cot_rounds": 6}, 16, 4 + 6 + 3),
        ({}, 96, 12),
        ({}, 7, 7),  # too short for the last phase
    ],
)
def test_trials_of_several_phases_are_compared_in_their_last_phase(fixed: Any, rounds: int, grace: int) -> None:
    """At the first rung no score of an earlier phase is averaged, in any trial that the space can give."""
    sweep = replace(JOINT, rounds=rounds).fix(fixed)
    assert sweep.effective_grace_period() == grace
    both = replace(sweep, pairs=(ONE.pairs[0], *sweep.pairs), space={"knob": RATE, "phases": sweep.joined_space()})
    assert both.effective_grace_period() == grace, "beside a learner of one phase"
    assert replace(sweep, grace_period=1).effective_grace_period() == 1, "given"


def test_a_sweep_travels_and_is_written_down() -> None:
    assert pickle.loads(pickle.dumps(TWO)) == TWO
    plain = TWO.to_dict()
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain == json.loads(json.dumps(plain))
    assert Space.from_dict(plain["space"]) == TWO.joined_space()
    assert plain["grace_period"] == 1
    assert plain["pairs"][1]["learner"] == {
        "name": "dial",
        "class": "tests.support.knobs.Dial",
        "fields": {
            "rate": 0.2,
            "size": 4,
            "flag": False,
            "mode": "a",
            "decay": None,
            "targets": [],
            "depth": 1,
        },
    }


def test_the_fingerprint_changes_with_the_data_and_only_with_it() -> None:
    same, other = data_fingerprint(Letters()), data_fingerprint(Letters(size=11))
    assert same == data_fingerprint(Letters()) != other
    assert len(same) == 12
    assert int(same, 16) >= 0


def test_the_fingerprint_knows_what_is_learned_beside_the_answers(tmp_path: Path) -> None:
    def of_rationale(weight: int) -> str:
        rows = tmp_path / "told.jsonl"
        rows.write_text(json.dumps({"key": plain.train()[0].key, "rationale": "So it is.", "weight": weight}))
        load_rationales.cache_clear()
        return data_fingerprint(replace(plain, rationales=str(rows)))

    def of_system(said: str) -> str:
        rows = [{"messages": [{"role": "system", "content": said}, *talk]} for talk in talks]
        (tmp_path / said).with_suffix(".jsonl").write_text("\n".join(map(json.dumps, rows)))
        return data_fingerprint(StyleTask(data=f"{tmp_path / said}.jsonl"))

    plain = StrategyQaTask(train_size=8, search_size=8, test_size=8)
    assert len({data_fingerprint(plain), of_rationale(1), of_rationale(2)}) == 3
    assert of_rationale(2) == of_rationale(2)
    talks = [[{"role": "user", "content": f"Thing {n}?"}, {"role": "assistant", "content": "Yes."}] for n in range(60)]
    assert of_system("short") != of_system("long")


def test_another_base_narrows_the_ranges() -> None:
    """`--base` brings the limits of `search_spaces.models`; a base that is not in its table changes nothing."""
    from sweeps.arena import SWEEP
    from sweeps.cli.flags import parse

    def highest(*flags: str) -> float:
        _, sweep = parse(SWEEP, ["--learner", "lora", *flags])
        return sweep.space_of(sweep.pairs[0]).axes["learning_rate"].high

    assert highest() == highest("--base", "nobody/unheard-of") == 2e-2
    assert highest("--base", "Qwen/Qwen2.5-7B-Instruct") < 2e-2


def test_what_leaves_nothing_of_an_axis_is_bad_input_and_a_fixed_value_is_not() -> None:
    from sweeps.arena import SWEEP
    from sweeps.cli.flags import parse

    fast = lora.SPACE.replace(learning_rate=FloatDistribution(5e-3, 2e-2, log=True))
    sweep = replace(SWEEP, pairs=SWEEP.pairs[:1], optional=(), space=fast)
    base = ["--base", "meta-llama/Llama-3.1-8B"]
    with pytest.raises(BadInput, match=r"'learning_rate' in .* has nothing at or below 0.003.*--set learning_rate=VAL"):
        parse(sweep, base)
    _, fixed = parse(sweep, [*base, "--set", "learning_rate=5e-3"])
    assert fixed.defaults()[0].fields.get("learning_rate") is None
    assert fixed.space_of(fixed.pairs[0]).axes["learning_rate"].choices == (5e-3,)
    with pytest.raises(BadInput, match=r"^--set r=\{: '\{' is no value of an axis; give a number") as error:
        parse(sweep, ["--set", "r={"])
    with pytest.raises(BadInput, match=r"^learning_rate is nan; give a finite number$"):
        parse(sweep, ["--set", "learning_rate=nan"])
    assert "\n" not in str(error.value)


def test_a_folder_as_base_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sweeps.arena import SWEEP
    from sweeps.cli.flags import parse

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/merged").mkdir(parents=True)
    (tmp_path / "builtin").mkdir()
    known = {"mine/merged:nf4": f"{tmp_path}/mine/merged:nf4", "builtin:tiny": "builtin:tiny", "a/hub:nf4": "a/hub:nf4"}
    for given, base in known.items():
        _, sweep = parse(SWEEP, ["--learner", "lora", "--base", given])
        assert [pair.base for pair in sweep.pairs] == [base]
