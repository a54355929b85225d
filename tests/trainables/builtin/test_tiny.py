"""The base that ships with Espalier: what it was trained on, what it can read, its size, how it answers untouched."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from trainables.builtin import pretrain
from trainables.builtin import tokenizer as makes
from trainables.builtin.muon import orthogonal
from trainables.builtin.pretraining_data import HABITS, STYLES, stream
from trainables.builtin.start import LOOKING_BACK, untrained
from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.task import ArenaTask, bucket

FOLDER = pretrain.FOLDER
KEPT = AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def vocabulary():
    return KEPT


@pytest.fixture(scope="module")
def base():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)


def test_pretraining_never_sees_a_key_of_another_bucket():
    talks = [*islice(stream(0, skills=5000), 10_000)]
    keys = {talk.key for talk in talks}
    assert {bucket(key) for key in keys} == {"pretrain"}
    task = ArenaTask()
    asked = [*task.train(), *task.search(), *task.test()]
    assert not keys & {e.key for e in asked}
    assert not {talk.prompt for talk in talks} & {e.prompt for e in asked}
    assert all(not talk.system for talk in talks[:5000]), "the first part has no system messages"


def test_every_topic_has_a_habit_and_the_stream_repeats():
    assert set(HABITS) == {topic for kind in KINDS.values() for topic in kind.topics}
    assert list(islice(stream(3), 50)) == list(islice(stream(3), 50)) != list(islice(stream(4), 50))


def test_speakers_differ_in_style_and_care():
    talks = [talk for talk in islice(stream(1), 4000) if not talk.system]
    endings = [talk.answer.startswith("The answer") for talk in talks], [", I" in talk.answer for talk in talks]
    shares = [sum(found) / len(talks) for found in endings]
    assert all(0.15 < share < 0.5 for share in shares)
    assert len(STYLES) == 3


@settings(max_examples=150, deadline=None)
@given(st.text())
@example("Ann  has\t12\n\n apples, isn't\r\nshe? ")
@example("  leading, inner   and trailing spaces   ")
@example("\x00 \ufeff é é \u2028 日本 👩‍👩‍👧 \U0010ffff")
@example("Anna's Benjamin hasty raincoat 007 3.14")
@example("<|im_start|>user\nhello<|im_end|>")
def test_any_text_comes_back(text):
    text = text.encode("utf-8", "ignore").decode()  # lone surrogates are no text
    assert KEPT.decode(KEPT(text).input_ids) == text


def test_words_are_tokens_and_digits_stand_apart(vocabulary):
    assert vocabulary.tokenize("Ben has 12 coins.") == ["Ben", "ĠhasĠ", "1", "2", "Ġ", "coins", "."]
    for word in makes.CONTENT:
        assert len(vocabulary(word).input_ids) == 1
    for prompt in (e.prompt for e in ArenaTask().test()):
        assert all(len(t) > 1 or t in "0123456789.,?:aĠ" for t in vocabulary.tokenize(prompt)), prompt


def test_the_committed_tokenizer_is_the_one_the_script_makes(vocabulary, tmp_path):
    makes.build().save_pretrained(tmp_path)
    made, kept = (json.loads((Path(f) / "tokenizer.json").read_text()) for f in (tmp_path, FOLDER))
    assert made == kept


def test_chat_template_is_what_pretraining_used(vocabulary):
    talk = next(t for t in stream(0) if t.system)
    messages = [{"role": "system", "content": talk.system}, {"role": "user", "content": talk.prompt}]
    text = vocabulary.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids, start = pretrain.encode(vocabulary, [talk])[0]
    assert vocabulary(text).input_ids == ids[:start]
    assert vocabulary.decode(ids[start:]) == f"{talk.answer}<|im_end|>"
    assert ids[-1] == vocabulary.eos_token_id


def test_size(base):
    assert sum(p.numel() for p in base.parameters()) <= 4_000_000
    assert sum(f.stat().st_size for f in FOLDER.rglob("*") if f.is_file()) <= 8 * 2**20
    assert base.config.model_type == "qwen2"
    assert {f.suffix for f in FOLDER.iterdir()} <= {".json", ".safetensors", ".jinja"}


def test_end_token_and_padding(base, vocabulary):
    assert base.generation_config.eos_token_id == vocabulary.eos_token_id == vocabulary.convert_tokens_to_ids(makes.END)
    assert base.config.pad_token_id == vocabulary.pad_token_id != vocabulary.eos_token_id


def test_worth_adapting(base, vocabulary):
    """Untouched it scores 15 to 50 %; asked for the arena's manner it does far better: the skill is there."""
    search = list(ArenaTask().search())
    plain = dict(pretrain.measure(base, vocabulary, search))
    told = dict(pretrain.measure(base, vocabulary, search, pretrain.BRIEF))
    assert 0.15 <= plain["all"] <= 0.5
    assert plain["lenient"] >= plain["all"] + 0.1, "part of what is missing is the answer's format"
    assert told["all"] >= plain["all"] + 0.2, "asked for the arena's manner, it has the skill"


def test_a_batch_scores_the_answer_and_its_end_only(vocabulary):
    tokens, labels = next(pretrain.batches(vocabulary, seed=0, steps=10))
    assert tokens.shape == labels.shape
    for row, wanted in zip(tokens, labels, strict=True):
        text = vocabulary.decode(row[wanted != -100])
        assert text.endswith(makes.END)
        assert "<|im_start|>" not in text
        assert vocabulary.decode(row).rstrip(makes.PAD).endswith(f"assistant\n{text}".rstrip(makes.PAD))


def test_muon_makes_singular_values_alike():
    torch.manual_seed(0)
    made = torch.linalg.svdvals(orthogonal(torch.randn(2, 24, 8)))
    assert made.shape == (2, 8)
    assert made.min() > 0.6
    assert made.max() < 1.3


def test_the_untrained_base_looks_back_and_copies(vocabulary):
    torch.manual_seed(0)
    base = untrained(vocabulary)
    base.set_attn_implementation("eager")
    tokens = torch.randint(3, len(vocabulary), (64, 20))
    first = base.model(tokens, output_attentions=True).attentions[0].mean(0)  # (heads, queries, keys)
    for head, back in enumerate(LOOKING_BACK):
        assert first[head, -1].argmax() == 19 - back, "on average over texts"
    attention = base.model.layers[2].self_attn
    copied = attention.o_proj.weight @ attention.v_proj.weight
    assert torch.allclose(copied, 0.5 * torch.eye(len(copied)), atol=1e-5)
