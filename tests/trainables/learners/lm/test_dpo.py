"""dpo: what pairs are made of, what the reference is and how often it is read, and the loss by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tests.support.phases_kit import TASK, rationale_file, saying, text_of, tiny, written
from trainables.core import Complete, Read
from trainables.learners.lm.dpo import DpoConfig, ReferencePair
from trainables.learners.lm.preference_losses import cal_dpo, dpo, dr_dpo
from trainables.models.tokenization import row_of
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.training.dialogue import run_queries

FIRST = TASK.train()[:4]  # Yes, Yes, No, No


def prepared(config, task, said=(), reference=lambda place: [-1.0 * place]):
    """A learner that was told what the base says to each question, and reads `reference` of each row; what it asked."""
    base, asked = tiny(), []
    learner = config.build(base, task, 0)

    def answer(ask):
        asked.append(ask)
        return said if isinstance(ask, Complete) else [reference(place) for place in range(len(ask.rows))]

    run_queries(learner.prepare(), answer)
    return base, learner, asked


def flipped(example):
    return TASK.with_answer(TASK.rationale(example), "No" if example.answer == "Yes" else "Yes")


def pairs_file(folder, examples=FIRST):
    rows = [{"key": e.key, "chosen": f"{e.answer}.", "rejected": "It may be."} for e in examples]
    return StrategyQaTask(train_size=8, search_size=8, test_size=8, pairs=written(folder / "pairs.jsonl", rows))


def test_the_rejected_side_is_what_was_said_wrongly_or_the_rationale_with_the_other_answer():
    base = tiny()
    wrong = "Ann is old. So the answer is No."
    texts = [(wrong, True), (TASK.rationale_answer(FIRST[1]), True), ("Perhaps.", True), ("Yes.", False)]
    _, learner, asked = prepared(DpoConfig(max_pairs=4), TASK, [saying(base, *own) for own in texts])
    assert [type(ask) for ask in asked] == [Complete, Read]
    assert all(ask.untouched for ask in asked), "the reference is the base"
    assert len(asked[0].prompts) == 4
    assert asked[0].max_new_tokens == DpoConfig().max_new_tokens
    rejected = [wrong, *map(flipped, FIRST[1:])]
    for place, (example, own) in enumerate(zip(FIRST, rejected, strict=True)):
        chosen = TASK.rationale_answer(example)
        assert learner.state()["known"][place] == (chosen, own, (-2.0 * place, -2.0 * place - 1.0))
        pair = [row_of(base.tokenizer, example.prompt, text) for text in (chosen, own)]
        assert list(asked[1].rows[2 * place : 2 * place + 2]) == pair
    rows = learner.next_rows()
    assert len(rows) == learner.rows_per_batch == DpoConfig().rows_per_batch() == 16
    assert all(TASK.parse_answer(text_of(base, row)) is not None for row in rows[0::2])


def test_pairs_of_one_label_alone_are_refused_as_pairs(tmp_path):
    task = pairs_file(tmp_path, [example for example in TASK.train() if example.answer == "Yes"])
    with pytest.raises(ValueError, match=r"^no pair is of a question answered 'No', of 4; add some to --task.pairs"):
        DpoConfig().build(tiny(), task, 0)


def test_pairs_that_a_task_brings_are_taken_and_nothing_is_said(tmp_path):
    task = pairs_file(tmp_path)
    base, learner, asked = prepared(DpoConfig(max_pairs=3), task)
    assert [type(ask) for ask in asked] == [Read]
    known = [ReferencePair(*own) for own in learner.state()["known"]]
    assert [(own.chosen, own.rejected) for own in known] == [task.pair(e) for e in FIRST[:3]]
    assert {text_of(base, row).rpartition("assistant")[2].strip() for row in asked[0].rows[1::2]} == {"It may be."}


def by_hand(**options):
    """Reference -1, -2 for each pair; two pairs of one micro-batch with log ratios 3, -1 and 0, 2: margins 4 and -2."""
    config = DpoConfig(per_device_train_batch_size=2, **options)
    _, learner, _ = prepared(config, TASK, [saying(tiny(), "Perhaps.")] * 8, lambda place: [-1.0 - place % 2])
    sums = [2.0, -3.0, -1.0, 0.0]

    def loss(scale=1.0):
        rows = learner.next_rows()
        return lambda: learner.loss([torch.tensor([0.25 * s * scale, 0.75 * s * scale]) for s in sums], rows)

    return learner, loss


REFERENCE = torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -2.0])
SUMS = torch.tensor([2.0, -1.0]), torch.tensor([-3.0, 0.0])


def test_the_loss_is_dpos_by_hand():
    _, loss = by_hand(beta=0.5)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    assert loss()().item() == pytest.approx(expected)
    assert expected == pytest.approx(dpo(*SUMS, *REFERENCE, beta=0.5).mean().item())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label_smoothing": 0.2}, dpo(*SUMS, *REFERENCE, 0.5, 0.2).mean()),
        ({"loss_type": "cal_dpo"}, cal_dpo(*SUMS, *REFERENCE, 0.5).mean()),
        ({"beta_prime": 0.7}, dr_dpo(dpo(*SUMS, *REFERENCE, 0.5), 0.7)),
        ({"loss_type": "cal_dpo", "beta_prime": 0.7}, dr_dpo(cal_dpo(*SUMS, *REFERENCE, 0.5), 0.7)),
    ],
    ids=["smoothed", "cal", "dr", "both"],
)
def test_options_reach_the_loss(options, expected):
    plain = by_hand(beta=0.5)[1]()()
    found = by_hand(beta=0.5, **options)[1]()()
    assert found.item() == pytest.approx(expected.item())
    assert found.item() != pytest.approx(plain.item(), rel=0.01)


def test_a_pair_weighs_what_its_label_lacks(tmp_path):
    """One Yes and three No of eight: factors 2 and 2/3. Each pair's loss is log 2, as nothing was learned yet."""
    yes, no = FIRST[0], [e for e in TASK.train() if e.answer == "No"][:3]
    file = rationale_file(tmp_path, [yes, *no], [1] * 4)
    task = StrategyQaTask(train_size=8, rationales=file)
    config = DpoConfig(per_device_train_batch_size=1)
    base, learner, _ = prepared(config, task, [saying(tiny(), "Perhaps.")] * 4, lambda place: [-1.0])
    for _ in range(4):
        rows = learner.next_rows()
        factor = 2 if yes.prompt in text_of(base, rows[0]) else 2 / 3
        assert learner.loss([torch.tensor([-1.0])] * 2, rows).item() == pytest.approx(factor * math.log(2))


def test_beta_rises_with_optimizer_steps_and_a_loss_asked_twice_counts_once():
    """Two micro-batches a step, two steps of warm-up: 0.1, 0.1, 0.3, 0.3, 0.5, 0.5."""
    learner, loss = by_hand(beta=0.5, beta_start=0.1, beta_warmup_steps=2, gradient_accumulation_steps=2)
    for beta in (0.1, 0.1, 0.3, 0.3, 0.5, 0.5):
        micro = loss()
        expected = dpo(*SUMS, *REFERENCE, beta).mean().item()
        assert micro().item() == pytest.approx(expected)
        assert micro().item() == pytest.approx(expected), "again, after memory ran out"
    learner, loss = by_hand(beta=0.5)
    for scale, asked in ((1.0, 3), (3.0, 1)):
        micro = loss(scale)
        for _ in range(asked):
            micro()
    said = [saying(tiny(), "Perhaps.")] * 8
    said = [type(one)(one.tokens, True, [-1.0] * (len(one.tokens) + 1)) for one in said]
    metrics = run_queries(learner.evaluate("search"), lambda ask: said).metrics
    assert metrics["logps/chosen"] == pytest.approx((0.5 + 1.5) / 2)
    assert metrics["rewards/margins"] == pytest.approx((0.5 * 1 + 0.5 * 5) / 2), "margins of 4 and -2, then 14 and -4"
    assert "logps/chosen" not in run_queries(learner.evaluate("test"), lambda ask: said).metrics, "of these pairs, once"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"beta": 0}, "beta is 0"),
        ({"beta_start": -1}, "beta_start is -1"),
        ({"beta_prime": 0}, "beta_prime is 0"),
        ({"label_smoothing": 0.5}, "label_smoothing is 0.5"),
        ({"label_smoothing": 0.1, "loss_type": "cal_dpo"}, "not defined for cal_dpo"),
        ({"loss_type": "ipo"}, "loss_type is 'ipo'"),
        ({"beta_warmup_steps": -1}, "beta_warmup_steps is -1"),
        ({"max_pairs": 0}, "max_pairs is 0"),
        ({"watch_updates": True}, "half of a pair is wrong"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$"):
        DpoConfig(**fields)
