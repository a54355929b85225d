"""Behaviour that language learners share: the order of the data, the loss, prompts, and scoring."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.support.miniatures import base
from tests.support.toys import Letters
from trainables.core import Completion, Row
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.tokenization import decode, encode_prompt, encode_row

BASE = base("qwen2")
TASK = Letters(size=12)


def learner(seed=0, **fields):
    return LoraConfig(**fields).build(BASE, TASK, seed)


def drawn(made, batches):
    return [row for _ in range(batches) for row in made.next_rows()]


def test_batches_pass_over_the_data_once_and_shuffle_anew():
    rows = drawn(learner(per_device_train_batch_size=4), 6)
    everything = Counter(encode_row(BASE.tokenizer, example) for example in TASK.train())
    assert Counter(rows[:12]) == everything
    assert Counter(rows[12:]) == everything
    assert rows[:12] != rows[12:]


def test_the_order_depends_on_the_seed_alone():
    assert drawn(learner(seed=1), 3) == drawn(learner(seed=1), 3)
    assert drawn(learner(seed=1), 3) != drawn(learner(seed=2), 3)


def test_online_takes_one_episode_at_a_time():
    made = learner(mode="online")
    assert [len(made.next_rows()) for _ in range(5)] == [1] * 5


def test_a_curriculum_goes_from_easy_to_hard_and_then_shuffles():
    letters = [
        decode(BASE.tokenizer, list(row.tokens))[11:12] for row in drawn(learner(mode="online", curriculum=True), 24)
    ]
    assert letters[:12] == sorted(letters[:12])
    assert letters[12:] != sorted(letters[12:])


def test_replay_adds_only_what_was_seen():
    made = learner(mode="online", replay_ratio=2)
    seen = [made.next_rows()[0]]
    for _ in range(6):
        new, *replayed = made.next_rows()
        assert len(replayed) == 2
        assert all(row in seen for row in replayed)
        seen.append(new)


@pytest.mark.parametrize(("ratio", "replayed"), [(0.4, 40), (0.5, 50), (1.5, 150), (2.5, 250)])
def test_of_a_fraction_of_a_row_as_much_is_replayed_as_was_asked_for(ratio, replayed):
    made = learner(mode="online", replay_ratio=ratio)
    sizes = [len(made.next_rows()) - 1 for _ in range(101)]
    assert sizes[0] == 0, "nothing was seen"
    assert sum(sizes[1:]) == pytest.approx(replayed, abs=1)
    assert max(sizes) < made.rows_per_batch <= 1 + ratio + 1


@pytest.mark.parametrize("fields", [{}, {"mode": "online", "replay_ratio": 1}, {"curriculum": True}])
def test_the_place_in_the_data_survives_a_restart(fields):
    made = learner(**fields)
    drawn(made, 2)
    again = learner(**fields)
    again.load(made.state())
    assert drawn(again, 3) == drawn(made, 3)


def test_training_and_evaluation_share_one_prompt():
    for prompt, example in zip(learner().prompts("search"), TASK.search(), strict=True):
        row = encode_row(BASE.tokenizer, example)
        assert prompt == encode_prompt(BASE.tokenizer, example.prompt)
        assert list(row.tokens[: len(prompt)]) == prompt
        assert row.labels == (False,) * len(prompt) + (True,) * (len(row.tokens) - len(prompt))
        assert row.tokens[-1] == BASE.eos


def test_a_chat_template_is_used_where_there_is_one():
    chatty = base("qwen2").tokenizer
    chatty.chat_template = (
        "{% for m in messages %}a {{ m.content }} b{% endfor %}{% if add_generation_prompt %} c{% endif %}"
    )
    assert encode_prompt(chatty, "d") == chatty("a d b c").input_ids
    assert encode_prompt(BASE.tokenizer, "d") == chatty("Question: d\nAnswer:").input_ids


def test_loss_is_the_mean_over_answer_tokens_by_hand():
    rows = [Row((5, 6, 7), (False, True, True)), Row((5, 6), (False, True))]
    logprobs = [torch.tensor([-1.0, -2.0]), torch.tensor([-6.0])]
    assert learner().loss(logprobs, rows).item() == pytest.approx((1 + 2 + 6) / 3)


def test_judging_counts_truncation_and_scores_it_zero():
    made = learner()
    gold = [Completion(BASE.tokenizer(e.answer, add_special_tokens=False).input_ids, True) for e in TASK.search()]
    assert made.judge("search", gold).score == 1.0
    gold[0].ended = False
    cut = made.judge("search", gold)
    assert cut.score == pytest.approx(11 / 12)
    assert cut.metrics["truncated"] == pytest.approx(1 / 12)
    assert cut.metrics["lenient"] == 1.0
    assert cut.items == [0.0] + [1.0] * 11
    assert cut.metrics["score.letter"] == cut.score


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"per_device_train_batch_size": 4}, [3, 3, 3]),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}, [2, 2, 2]),
        ({"mode": "online"}, [12, 12, 12]),
        (
            {"per_device_train_batch_size": 8},
            [2, 1, 2],
        ),  # 1.5 steps: 36 rows in three rounds, and less than a batch more
        ({"per_device_train_batch_size": 16}, [1, 1, 1]),  # a batch is more than a round
        ({"per_device_train_batch_size": 4, "steps_per_round": 5}, [5, 5, 5]),
    ],
)
def test_a_round_takes_equally_many_rows_whatever_the_batch(fields, steps):
    made, seen = learner(rows_per_round=12, **fields), []
    for _ in range(3):
        list(made.prepare())
        seen.append(made.steps_per_round)
        drawn(made, seen[-1] * made.optimizer.gradient_accumulation_steps)
    assert seen == steps


@pytest.mark.parametrize(
    ("make", "fields", "words"),
    [
        (LoraConfig, {"r": 0}, "r is 0"),
        (LoraConfig, {"lora_alpha": 0}, "lora_alpha is 0"),
        (LoraConfig, {"lora_dropout": 1.0}, "lora_dropout is 1.0"),
        (LoraConfig, {"learning_rate": float("nan")}, "learning_rate is nan"),
        (LoraConfig, {"steps_per_round": -1}, "steps_per_round is -1"),
        (LoraConfig, {"rows_per_round": 0}, "rows_per_round is 0"),
        (LoraConfig, {"max_grad_norm": 0}, "max_grad_norm is 0"),
        (SoftPromptConfig, {"num_virtual_tokens": 0}, "num_virtual_tokens is 0"),
        (HybridConfig, {"prompt_learning_rate": -1}, "prompt_learning_rate is -1"),
    ],
)
def test_bad_fields_name_the_value(make, fields, words):
    with pytest.raises(ValueError, match=words):
        make(**fields)
