"""phases: when they change, which rate and which reference each has, and that a trial goes on in the middle of any."""

from __future__ import annotations

import pytest
import torch

from tests.support.phases_kit import TASK, saying, text_of, tiny
from tests.support.toys import untimed
from trainables.core import Complete, Read
from trainables.learners.lm.phases import PhasesConfig
from trainables.models.tokenization import row_of
from trainables.packed.solo import Solo

FIELDS = {
    "r": 2,
    "per_device_train_batch_size": 2,
    "steps_per_round": 2,
    "max_new_tokens": 8,
    "max_pairs": 4,
    "sft_rounds": 2,
    "cot_rounds": 2,
    "beta_warmup_steps": 3,
}


def opened(**more):
    base = tiny()
    config = PhasesConfig(**FIELDS | more)
    return base, Solo(base, config.build(base, TASK, 0), 0)


def learner_of(solo):
    return solo.host.trials["solo"].learner


def kind_of(base, rows):
    """Return what these rows teach: answers, rationales, or preferences."""
    texts = [text_of(base, row).rpartition("assistant")[2].strip() for row in rows]
    if all(text in ("Yes", "No") for text in texts):
        return "answers"
    return "preferences" if len(rows) == 4 else "rationales"


def test_phases_change_at_their_rounds():
    base, solo = opened()
    learner, seen = learner_of(solo), []
    plain = learner.next_rows

    def next_rows():
        rows = plain()
        seen.append(kind_of(base, rows))
        return rows

    learner.next_rows = next_rows
    told = []
    for _ in range(6):
        metrics = solo.round().flat() | solo.evaluate().flat()
        told.append((metrics["phase"], {*seen}, "rewards/margins" in metrics))
        seen.clear()
    solo.close()
    a, b, c = (0, {"answers"}, False), (1, {"rationales"}, False), (2, {"preferences"}, True)
    assert told == [a, a, b, b, c, c]


@pytest.mark.parametrize(("sft_rounds", "cot_rounds", "phase"), [(0, 2, 1), (0, 0, 2), (1, 0, 0)])
def test_a_phase_can_be_left_out_and_the_untouched_base_is_asked_as_the_first_one_asks(sft_rounds, cot_rounds, phase):
    """Before the first round, too: what is cut off after an answer's budget was no rationale."""
    _, solo = opened(sft_rounds=sft_rounds, cot_rounds=cot_rounds, max_new_tokens=9)
    assert next(learner_of(solo).evaluate("search")).max_new_tokens == (TASK.max_new_tokens if phase == 0 else 9)
    solo.round()
    assert solo.evaluate().metrics["phase"] == phase
    solo.round()
    assert solo.evaluate().metrics["phase"] == (2 if phase != 1 else 1)
    solo.close()


@pytest.mark.parametrize("moving", [0, 1, 2])
def test_the_optimizer_takes_each_phases_own_rate(moving):
    rates = ["learning_rate", "cot_learning_rate", "dpo_learning_rate"]
    _, solo = opened(**{name: 1e-3 if place == moving else 0.0 for place, name in enumerate(rates)})
    for number in range(6):
        before = solo.values()
        solo.round()
        after = solo.values()
        same = all(torch.equal(before[name], after[name]) for name in before)
        assert same == (number // 2 != moving), number
    solo.close()


def test_the_reference_is_the_adapter_as_phase_b_leaves_it():
    base, solo = opened()
    for _ in range(4):
        solo.round()
    after_b = solo.state()
    for _ in range(2):
        solo.round()
    known = learner_of(solo).state()["phases"][2]["known"]
    assert len(known) == 4
    sums = {}
    solo.load(after_b)
    rows = [
        row_of(base.tokenizer, e.prompt, text) for e, own in zip(TASK.train(), known, strict=False) for text in own[:2]
    ]
    for name, trial in (("after B", "solo"), ("untouched", None)):
        sums[name] = [float(one.sum()) for one in solo.host.logprobs(rows, trial)]
    found = [value for own in known for value in own[2]]
    solo.close()
    assert found == pytest.approx(sums["after B"], rel=1e-5)
    assert found != pytest.approx(sums["untouched"], rel=1e-2)


def test_pairs_are_made_of_what_the_adapter_itself_says():
    base = tiny()
    asking = PhasesConfig(**FIELDS | {"sft_rounds": 0, "cot_rounds": 0}).build(base, TASK, 0).prepare()
    said = next(asking)
    assert isinstance(said, Complete)
    read = asking.send([saying(base, "Perhaps.")] * 4)
    assert isinstance(read, Read)
    assert (said.untouched, read.untouched) == (False, False)


@pytest.mark.parametrize("behind", range(1, 6), ids=["in A", "after A", "in B", "after B", "in C"])
def test_a_trial_goes_on_to_the_last_bit(behind):
    _, one = opened()
    for _ in range(behind):
        one.round()
        one.evaluate()
    state = one.state()
    expected = [one.round().loss, one.evaluate(), one.values()]
    one.close()
    _, other = opened()
    other.load(state)
    assert other.round().loss == expected[0]
    assert untimed(other.evaluate()) == untimed(expected[1])
    assert all(torch.equal(value, expected[2][name]) for name, value in other.values().items())
    other.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sft_rounds": -1}, "sft_rounds is -1"),
        ({"cot_rounds": -2}, "cot_rounds is -2"),
        ({"lr_scheduler_type": "linear"}, "phases have their own rates"),
        ({"dpo_learning_rate": -1.0}, r"learning_rate is -1\.0"),
        ({"beta": 0.0}, r"beta is 0\.0"),
        ({"watch_updates": True}, "watch_updates compares"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        PhasesConfig(**fields)


def test_each_phase_has_its_own_settings():
    config = PhasesConfig(**FIELDS)
    assert config.rows_per_batch() == 4
    assert config.dpo().learning_rate == config.dpo_learning_rate
    assert config.cot().max_new_tokens == 8
