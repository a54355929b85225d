"""`--like` takes an earlier sweep's best trials, and its space without the regions that had no good trials."""

from __future__ import annotations

import dataclasses

import numpy as np
import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler

from search_spaces.axis import inside
from search_spaces.space import Space
from sweeps.persistence.provenance import describe
from sweeps.results.leaderboard import write_all
from sweeps.results.records import Final, TrialRecord
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.tables import FINALISTS, finalists_parquet
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import Sweep
from sweeps.spec.warm_start import NarrowedAxis, in_words, like
from tests.support.toys import Digits, Letters
from trainables.bad_input import BadInput
from trainables.core import Example, Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig

TASK = Letters(30)
FIRST = 4  # of a sweep of 16 trials
SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
        "weight_decay": FloatDistribution(0.0, 0.1),
        "r": CategoricalDistribution((4, 8, 2048)),
        "warmup_steps": IntDistribution(0, 20, step=5),
        "lr_scheduler_type": CategoricalDistribution(("constant", "cosine")),
    }
)
PROMPTS = Space(
    {"learning_rate": FloatDistribution(1e-3, 0.3, log=True), "num_virtual_tokens": CategoricalDistribution((4, 8))}
)
LORA, PROMPT = Pair(LoraConfig(), TASK, "mini-a"), Pair(SoftPromptConfig(), TASK, "mini-a")


def sweep(*pairs, base="mini-b", **more):
    spaces = {"lora": SPACE, "soft_prompt": PROMPTS} | more
    return Sweep("sweep", tuple(dataclasses.replace(p, base=base) for p in pairs or (LORA,)), spaces)


def drawn(space, n, seed):
    """Configurations, evenly over the space."""
    study = optuna.create_study(sampler=RandomSampler(seed))
    return [space.suggest(study.ask()) for _ in range(n)]


def rate_matters(params):
    """Best at a learning rate of 0.003."""
    return float(0.8 - 0.4 * abs(np.log10(params["learning_rate"] / 3e-3)))


def schedule_matters(params):
    """Cosine is worse."""
    return 0.5 + params["weight_decay"] - 0.3 * (params["lr_scheduler_type"] == "cosine")


def trial(number, params, score, status="finished", rounds=4, learner="lora", history=None):
    scores = history or [score] * rounds
    fixed = {"loss": 1.0, "diverged": status == "diverged", "time_s": 1.0, "seconds": 1.0, "at": 1.0}
    rows = [{"round": i, "score": s} | fixed for i, s in enumerate(scores, 1)]
    return TrialRecord(f"t{number}", number, TrialParams(learner, params), status, TrialHistory(tuple(rows)), 10)


def trials(n=40, seed=3, space=SPACE, score=rate_matters):
    return [trial(i, params, score(params)) for i, params in enumerate(drawn(space, n, seed))]


def past(folder, records, made=None, finals=()):
    """The folder of a sweep that has ended."""
    folder.mkdir(exist_ok=True)
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(describe(made or sweep(base="mini-a")), sort_keys=False))
    write_all(folder, records, baselines={}, rounds=4, pairs=(made or sweep()).pair_names)
    if finals:
        (folder / FINALISTS).write_bytes(finalists_parquet(finals, [Example("?", "a", "kind", "key")]))
    return Run.read(folder)


def test_what_mattered_is_narrowed_and_what_did_not_keeps_its_range(tmp_path):
    new, first = like(sweep(), past(tmp_path / "run", trials()))
    space = new.space_of(new.pairs[0])
    rate = space.axes["learning_rate"]
    assert 1e-4 < rate.low < 3e-3 < rate.high < 1e-1
    assert np.log(rate.high / rate.low) < 0.7 * np.log(1e3)
    assert {name: axis for name, axis in space.axes.items() if axis != SPACE.axes[name]}.keys() == {"learning_rate"}
    assert [new.joined_space().contains(params.flat(new.pair_names)) for params in first] == [True] * FIRST


def test_a_choice_that_was_worse_is_dropped(tmp_path):
    new, _ = like(sweep(), past(tmp_path / "run", trials(score=schedule_matters)))
    assert new.space["lora"].axes["lr_scheduler_type"].choices == ("constant",)


def test_the_best_come_first_and_finalists_before_them(tmp_path):
    records = trials()
    ranked = sorted(records, key=lambda one: -one.score)
    _, first = like(sweep(), past(tmp_path / "run", records))
    assert first == [one.params for one in ranked[:FIRST]]
    again = trial(99, ranked[0].params.fields, ranked[0].score)
    assert like(sweep(), past(tmp_path / "run", [*records, again]))[1] == first  # equal ones are tried once
    won = ((ranked[5], 1.0), (ranked[2], 0.5))
    finals = [Final(f"trial {one.number}", 0.5, np.full((1, 1), score), one.trial_id, 4) for one, score in won]
    _, first = like(sweep(), past(tmp_path / "run", records, finals=finals))
    assert first == [ranked[i].params for i in (5, 2, 0, 1)]


def test_scores_that_have_nothing_to_do_with_the_space_cut_little(tmp_path):
    rng, cut = np.random.default_rng(3), 0
    for seed in range(10):
        new, _ = like(sweep(), past(tmp_path / f"{seed}", trials(seed=seed, score=lambda _: float(rng.random()))))
        cut += sum(axis != SPACE.axes[name] for name, axis in new.space["lora"].axes.items())
    assert cut <= 0.3 * 10 * len(SPACE)


def test_five_trials_cut_nothing(tmp_path):
    new, first = like(sweep(), past(tmp_path / "run", trials(5)))
    assert new.space["lora"] == SPACE
    assert len(first) == FIRST


def test_a_stopped_trial_is_compared_at_its_own_rounds(tmp_path):
    """Small rates were stopped at round 1, where they led; the others went on and then scored more."""
    ends = {True: ("pruned", [0.5]), False: ("finished", [0.3, 0.6, 0.6, 0.6])}
    records = []
    for i, params in enumerate(drawn(SPACE, 40, 3)):
        status, history = ends[params["learning_rate"] < 3e-3]
        records.append(trial(i, params, max(history), status, history=history))
    low = like(sweep(), past(tmp_path / "run", records))[0].space["lora"].axes["learning_rate"].low
    assert low == 1e-4


def test_diverged_trials_are_the_worst(tmp_path):
    records = [
        trial(one.number, one.params.fields, 0.0, "diverged") if one.params.fields["learning_rate"] > 3e-3 else one
        for one in trials(score=lambda params: 0.5 + params["weight_decay"])
    ]
    new, first = like(sweep(), past(tmp_path / "run", records))
    assert new.space["lora"].axes["learning_rate"].high < 1e-1
    assert all(params.fields["learning_rate"] <= 3e-3 for params in first)


def test_the_space_is_fitted_to_the_new_base(tmp_path):
    best = {"learning_rate": 0.09, "weight_decay": 0.01, "r": 2048, "warmup_steps": 5, "lr_scheduler_type": "constant"}
    run = past(tmp_path / "run", [*trials(), trial(99, best, 1.0)])
    new, first = like(sweep(base="Qwen/Qwen2.5-0.5B"), run)
    assert new.space["lora"].axes["r"].choices == (4, 8)
    assert new.space["lora"].axes["learning_rate"].high == 1e-2
    assert first[0].fields == best | {"learning_rate": 1e-2, "r": 8}
    assert [new.space["lora"].contains(params.fields) for params in first] == [True] * FIRST


def test_learners_take_turns_and_a_new_one_keeps_its_space(tmp_path):
    both = sweep(LORA, PROMPT)
    params = [TrialParams.from_flat(axes, "lora") for axes in drawn(both.joined_space(), 40, 3)]
    records = [trial(i, one.fields, i / 40, learner=one.learner) for i, one in enumerate(params)]
    run = past(tmp_path / "both", records, both)
    new, first = like(both, run)
    assert [params.learner for params in first] == ["lora", "soft_prompt"] * (FIRST // 2)
    assert all(new.joined_space().contains(params.flat(new.pair_names)) for params in first)
    _, first = like(sweep(PROMPT), run)
    best = next(one.params for one in reversed(records) if one.learner == "soft_prompt")
    assert first[0] == best
    mixed, first = like(both, past(tmp_path / "one", trials()))
    assert mixed.space["soft_prompt"] == PROMPTS
    assert [params.learner for params in first] == ["lora"] * (FIRST // 2)
    assert all(mixed.joined_space().contains(params.flat(mixed.pair_names)) for params in first)


def test_what_flags_have_fixed_stays_fixed(tmp_path):
    asked = sweep().fix({"r": 4, "steps_per_round": 10})
    run = past(tmp_path / "run", trials())
    new, first = like(asked, run)
    assert new.space["lora"].axes["r"].choices == (4,)
    assert {(params.fields["r"], params.fields["steps_per_round"]) for params in first} == {(4, 10)}
    assert all(new.space["lora"].contains(params.fields) for params in first)
    assert "r: {4} (fixed)" in in_words(asked, new, first, run)


def test_conditions_stay_valid(tmp_path):
    """`warmup_steps` waits for a choice that is cut away, `weight_decay` for either."""
    space = SPACE.given("warmup_steps", lr_scheduler_type="cosine")
    space = space.given("weight_decay", lr_scheduler_type=("constant", "cosine"))
    records = trials(space=space, score=schedule_matters)
    new, first = like(sweep(), past(tmp_path / "run", records, sweep(lora=space)))
    assert "warmup_steps" not in new.space["lora"].axes
    assert new.space["lora"].conditions["weight_decay"] == {"lr_scheduler_type": ("constant",)}
    assert [new.space["lora"].contains(params.fields) for params in first] == [True] * FIRST


@pytest.mark.parametrize(
    ("asked", "records", "said"),
    [
        (sweep(PROMPT), trials(), "its learners are lora, this sweep's soft_prompt; add --learner lora"),
        (sweep(), [], "none of its 0 trials of lora has a score"),
        (sweep(), [trial(0, {}, 0.0, "diverged")], "none of its 1 trials of lora has a score"),
        (sweep(Pair(LoraConfig(), Digits(), "mini-a")), trials(), "its task is letters, this sweep's digits"),
    ],
)
def test_nothing_to_take_is_said_in_one_line(tmp_path, asked, records, said):
    run = past(tmp_path / "run", records)
    with pytest.raises(BadInput, match=r".*--like .*run: ") as caught:
        like(asked, run)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_told_in_words(tmp_path):
    run, asked = past(tmp_path / "run", trials()), sweep(base="Qwen/Qwen2.5-0.5B")
    new, first = like(asked, run)
    lines = in_words(asked, new, first, run)
    assert lines[0] == f"like {run.folder}: its best 4 configurations are tried first"
    assert any(line.startswith("learning_rate: 0.0001-0.1 -> ") and line.endswith("(mattered)") for line in lines)
    assert "r: {4, 8, 2048} -> {4, 8} (suits the base)" in lines
    kept = "weight_decay, warmup_steps, lr_scheduler_type"
    assert lines[-2] == f"lora: whole range kept, as good trials were everywhere: {kept}"
    assert lines[-1] == f"{len(new.observations)} trials of that sweep guide the search until it has enough of its own"


def test_trials_inside_the_new_ranges_are_observations_by_their_rank(tmp_path):
    """A trial whose rank is 2048 does not fit the new base; the others are there, the best of all 40 with rank 1."""
    records = trials()
    new, _ = like(sweep(base="Qwen/Qwen2.5-0.5B"), past(tmp_path / "run", records))
    order = sorted(records, key=lambda one: -(one.score or 0.0))
    known = {one.params.fields["learning_rate"]: place for place, one in enumerate(order)}
    assert 0 < len(new.observations) < 40
    for params, rank in new.observations:
        assert params.pair == "lora"
        assert new.space_of(new.pairs[0]).contains(params.fields)
        assert rank == pytest.approx(1 - known[params.fields["learning_rate"]] / 39)
    assert all(one.params.fields["r"] != 2048 for one in new.observations)


def test_observations_survive_sweep_yaml(tmp_path):
    new, _ = like(sweep(LORA, PROMPT), past(tmp_path / "run", trials(), sweep(LORA, PROMPT, base="mini-a")))
    assert new.observations
    again = rebuild({"sweep": yaml.safe_load(yaml.safe_dump(new.to_dict()))})
    assert [one.params for one in again.observations] == [one.params for one in new.observations]
    assert [one.rank for one in again.observations] == [one.rank for one in new.observations]


AXES = st.one_of(
    st.tuples(st.floats(1e-5, 1), st.floats(1.5, 1e4)).map(lambda p: FloatDistribution(p[0], p[0] * p[1], log=True)),
    st.tuples(st.floats(-5, 5), st.floats(0.1, 10)).map(lambda p: FloatDistribution(p[0], p[0] + p[1])),
    st.tuples(st.integers(1, 9), st.integers(1, 50)).map(lambda p: IntDistribution(p[0], p[0] + 3 * p[1], step=3)),
    st.tuples(st.integers(1, 9), st.integers(1, 50)).map(lambda p: IntDistribution(p[0], p[0] + p[1], log=True)),
    st.integers(2, 5).map(lambda n: CategoricalDistribution(tuple(range(n)))),
)


@settings(max_examples=100, deadline=None)
@given(AXES, st.integers(3, 40), st.integers(0, 10**6))
def test_a_narrowed_axis_holds_what_is_tried_first_and_stays_inside(axis, n, seed):
    rng, tried = np.random.default_rng(seed), sorted(one["a"] for one in drawn(Space({"a": axis}), n, seed))
    at, part = int(rng.integers(n - max(3, n // 4) + 1)), max(3, n // 4)
    good, rest, keep = tried[at : at + part], tried[:at] + tried[at + part :], [tried[rng.integers(n)]]
    narrowed = NarrowedAxis(axis, good, rest, keep).narrowed()
    assert all(inside(narrowed, value) for value in keep)
    if isinstance(axis, CategoricalDistribution):
        assert set(narrowed.choices) <= set(axis.choices)
    else:
        assert axis.low <= narrowed.low <= narrowed.high <= axis.high
        assert (narrowed.log, narrowed.step) == (axis.log, axis.step)
        assert all(inside(axis, value) for value in (narrowed.low, narrowed.high))
