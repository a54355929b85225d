"""Fine-tuning on conversations: what is learned from, what an epoch is, and that scores are what they are called."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from sweeps.spec.data_summary import data_of
from tests.support.miniatures import base, tokenizer
from trainables.core import Message, Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.sft import SftConfig
from trainables.models.loading import load
from trainables.models.tokenization import encode_dialogue, encode_prompt, row_of
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.tasks.arena.task import ArenaTask
from trainables.tasks.style.task import StyleTask

TINY = load("builtin:tiny")
CHAT = (
    Message("system", "Be kind."),
    Message("user", "Who is the tallest?"),
    Message("assistant", "The answer is Ann."),
    Message("user", "Who is the tallest?"),
    Message("assistant", "Ann, I think."),
)
TWO = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"), Message("assistant", "d"))
SMALL = StyleTask("generated", 0, 24, 12, 12)
REWRITES = (  # an earlier reply is not shown as it was said
    "{% for m in messages %}{{ m.role }}: {{ m.content if loop.last or m.role == 'user' else 'k' }}<end>{% endfor %}"
    "{% if add_generation_prompt %}a: {% endif %}"
)


def said(reader, row, label):
    return reader.decode([t for t, own in zip(row.tokens, row.labels, strict=True) if own == label])


def test_only_what_the_assistant_says_is_learned_and_the_template_is_kept_token_by_token():
    (row,) = encode_dialogue(TINY.tokenizer, CHAT)
    chat = [{"role": role, "content": text} for role, text, *_ in CHAT]
    whole = TINY.tokenizer.apply_chat_template(chat, tokenize=False).rstrip("\n")
    assert list(row.tokens) == TINY.tokenizer(whole, add_special_tokens=False).input_ids
    assert said(TINY.tokenizer, row, True) == "The answer is Ann.<|im_end|>Ann, I think.<|im_end|>"
    assert said(TINY.tokenizer, row, False).count("Who is the tallest?<|im_end|>") == 2


@pytest.mark.parametrize("reader", [TINY.tokenizer, tokenizer()], ids=["template", "none"])
def test_one_question_is_encoded_as_everywhere(reader):
    (row,) = encode_dialogue(reader, (Message("user", "a b?"), Message("assistant", "c")))
    assert row == row_of(reader, "a b?", "c")


def test_a_base_without_a_template_reads_questions_and_answers():
    (row,) = encode_dialogue(tokenizer(), (Message("system", "x"), *TWO))
    text = "x\nQuestion: a\nAnswer: b<end>\nQuestion: c\nAnswer: d<end>"
    assert list(row.tokens) == tokenizer()(text).input_ids
    assert said(tokenizer(), row, True).split() == ["b", "<end>", "d", "<end>"]


def test_a_template_that_rewrites_earlier_turns_gives_a_row_per_reply():
    reader = tokenizer()
    reader.chat_template = REWRITES
    first, second = encode_dialogue(reader, TWO)
    assert (said(reader, first, True).split(), said(reader, second, True).split()) == (["b", "<end>"], ["d", "<end>"])
    assert "k" in said(reader, second, False)
    assert "b" not in said(reader, second, False).split()
    strict = tokenizer()
    strict.chat_template = "{{ raise_exception('no system here') }}"
    with pytest.raises(ValueError, match="refuses a conversation: no system here; leave such out"):
        encode_dialogue(strict, TWO)


@pytest.mark.parametrize("template", [None, REWRITES], ids=["one row", "a row per reply"])
def test_a_reply_that_the_data_marks_is_read_and_not_learned(template):
    reader = tokenizer()
    reader.chat_template = template
    bad = (TWO[0], TWO[1]._replace(learned=False), *TWO[2:])
    *_, row = encode_dialogue(reader, TWO)
    (other,) = encode_dialogue(reader, bad)
    assert other.tokens == row.tokens, "the reply that follows is learned behind the same text"
    assert said(reader, other, True).split() == ["d", "<end>"]


@pytest.fixture
def mine(tmp_path):
    """A user's conversations of one to three questions, the last one far too long."""
    rows = []
    for n in range(200):
        turns = [("user", f"Ann has {n} shells."), ("assistant", "The answer is Ann.")] * (1 + n % 3)
        rows.append({"messages": [{"role": role, "content": text} for role, text in turns]})
    rows.append({"messages": [{"role": "user", "content": "Ann. " * 300}, {"role": "assistant", "content": "Ann."}]})
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return StyleTask(data=str(tmp_path / "mine.jsonl"), max_length=200)


def built(task, seed=0, on=TINY, **fields):
    return SftConfig(**fields).build(on, task, seed)


def test_packed_rows_mean_the_same(mine):
    single, packed = built(mine), built(mine, packing=True)
    alone = [single.row(i) for i in range(len(single.examples))]
    together = [packed.row(i) for i in range(len(packed.examples))]
    assert len(together) < len(alone) / 3
    assert max(len(row.tokens) for row in together) <= 200
    host = Host(TINY)

    def per_token(rows):
        values = torch.cat(host.logprobs(rows)).double()
        return len(values), -values.mean().item()

    (count, nll), (packed_count, packed_nll) = per_token(alone), per_token(together)
    host.shut()
    assert packed_count == count
    assert packed_nll == pytest.approx(nll, abs=1e-5)


@pytest.mark.parametrize("packing", [False, True])
def test_an_epoch_is_every_conversation_once_in_an_order_of_its_own(mine, packing):
    one = built(mine, packing=packing, per_device_train_batch_size=1, rounds_per_epoch=1)
    epochs = [[one.next_rows()[0] for _ in range(one.steps_per_round)] for _ in range(2)]
    assert one.steps_per_round == len(one.examples)
    assert Counter(epochs[0]) == Counter(epochs[1])
    assert epochs[0] != epochs[1]
    assert sum(len(row.starts) + 1 for row in epochs[0]) == len(mine.train()) - one.left_out


def test_a_resumed_trial_goes_on_to_the_last_bit_and_counts_epochs():
    fields = {"packing": True, "per_device_train_batch_size": 2, "neftune_noise_alpha": 5.0, "forgetting": False}
    mini = base("qwen2")
    first = Solo(mini, built(SMALL, on=mini, **fields), 0)
    assert first.evaluate().metrics["epoch"] == 0
    first.round()
    state, second = first.state(), first.round()
    evaluation = first.evaluate()
    first.close()
    again = Solo(mini, built(SMALL, on=mini, **fields), 0)
    again.load(state)
    assert again.round().loss == second.loss
    assert again.evaluate().items == evaluation.items
    assert evaluation.metrics["epoch"] >= 1
    again.close()


def by_hand(row):
    """Nats of each label, by the model alone."""
    with torch.no_grad():
        logits = TINY.model(torch.tensor([row.tokens])).logits[0].double().log_softmax(-1)
    return [-logits[i - 1, row.tokens[i]].item() for i, label in enumerate(row.labels) if label]


def test_perplexity_and_likelihood_by_hand_and_long_rows_counted(mine):
    learner = built(replace(mine, max_length=60), forgetting=False)
    host = Host(TINY)
    evaluation = host.evaluate_untouched(learner)
    host.shut()
    rows = [encode_dialogue(TINY.tokenizer, example.data.messages)[0] for example in mine.search()]
    nats = [by_hand(row) if len(row.tokens) <= 60 else None for row in rows]
    known = [one for one in nats if one]
    everything = [x for one in known for x in one]
    assert evaluation.metrics["nll"] == pytest.approx(sum(everything) / len(everything), rel=1e-5)
    assert evaluation.metrics["perplexity"] == pytest.approx(math.exp(sum(everything) / len(everything)), rel=1e-4)
    assert evaluation.items == pytest.approx([math.exp(-sum(x) / len(x)) if x else 0.0 for x in nats], rel=1e-4)
    assert evaluation.score == pytest.approx(sum(evaluation.items) / len(rows))
    assert 0 < len(known) < len(rows)
    assert evaluation.metrics["too_long"] == pytest.approx(1 - len(known) / len(rows))
    long = sum(len(encode_dialogue(TINY.tokenizer, e.data.messages)[0].tokens) > 60 for e in mine.train())
    assert 0 < long == evaluation.metrics["rows_left_out"]
    assert len(evaluation.completions) == len(rows)
    with pytest.raises(ValueError, match="to train on are longer than 5 tokens; raise"):
        built(replace(mine, max_length=5))


def test_similarity_is_of_what_was_said_ended_or_not(mine):
    """Replies may be longer than what is decoded of them."""
    host = Host(TINY)
    evaluation = host.evaluate_untouched(built(replace(mine, max_new_tokens=3), forgetting=False))
    host.shut()
    near = [*map(mine.score, mine.search(), evaluation.completions)]
    assert evaluation.metrics["truncated"] > 0.5
    assert sum(near) > 0
    assert evaluation.metrics["similarity"] == pytest.approx(sum(near) / len(near))


def test_the_base_completes_what_comes_before_the_last_reply(mine):
    one = next(example for example in mine.search() if len(example.data.turns) == 1)
    prompts = next(built(mine).evaluate("search")).prompts
    assert len(prompts) == len(mine.search())
    assert list(prompts[mine.search().index(one)]) == encode_prompt(TINY.tokenizer, one.prompt)
    several = next(example for example in mine.search() if len(example.data.turns) > 1)
    prompt = prompts[mine.search().index(several)]
    chat = [{"role": m.role, "content": m.content} for m in several.data.messages[:-1]]
    asked = TINY.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert list(prompt) == TINY.tokenizer(asked, add_special_tokens=False).input_ids


def test_forgetting_is_what_the_arena_says_of_the_same_model():
    """The generated corpus keeps the score of its rules."""
    host = Host(TINY)
    arena = ArenaTask(search_size=20, test_size=20)
    expected = host.evaluate_untouched(LoraConfig().build(TINY, arena, 0))
    evaluation = host.evaluate_untouched(built(SMALL, forgetting_size=20))
    assert evaluation.metrics["forgetting_score"] == expected.score
    assert evaluation.metrics["forgetting_lenient"] == expected.metrics["lenient"] > 0
    assert "forgetting_score" not in host.evaluate_untouched(built(SMALL, forgetting=False)).metrics
    host.shut()
    scores = [SMALL.score(e, text) for e, text in zip(SMALL.search(), evaluation.completions, strict=True)]
    assert evaluation.score <= sum(scores) / len(scores)
    assert evaluation.metrics["perplexity"] > 1


def test_a_users_data_is_described_and_has_no_text_baselines(mine):
    pair = Pair(SftConfig(), mine, "builtin:tiny")
    assert data_of(pair)[0].startswith("rows: 201 (")
    assert any(line.startswith("too long: 1 rows") for line in data_of(pair))
    assert pair.baselines() == {}
    assert Pair(SftConfig(), SMALL).baselines() == SMALL.baselines()
    assert Pair(LoraConfig(), mine).baselines() == {}, "it ranks by likelihood, too"
    assert data_of(Pair(LoraConfig(), ArenaTask(), "builtin:tiny")) == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rounds_per_epoch": 0}, "rounds_per_epoch is 0; it must be at least 1"),
        ({"steps_per_round": -1}, "steps_per_round is -1; it must be at least 0"),
        ({"warmup_ratio": 1.0}, "warmup_ratio is 1.0; it is a share"),
        ({"packing": True, "curriculum": True}, "curriculum sorts single conversations"),
        ({"watch_updates": True}, "leave it off"),
        ({"forgetting_size": 2}, "search_size=2 must lie between 5"),
    ],
)
def test_bad_fields_name_the_value(fields, words):
    with pytest.raises(ValueError, match=words):
        SftConfig(**fields)
