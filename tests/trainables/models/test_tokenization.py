"""Questions and answers as tokens: what ends an answer, what a tokenizer makes of both together, what day it is."""

from __future__ import annotations

import json
import shutil
from datetime import datetime

import pytest
import torch
import transformers.utils.chat_template_utils
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.support.miniatures import tokenizer
from trainables.core import Message
from trainables.learners.lm.lora import LoraConfig
from trainables.models.chat_template import assistant_turn, takes_tools
from trainables.models.loading import BUILTIN, UnknownBase, load
from trainables.models.loading import tokenizer as load_tokenizer
from trainables.models.merge import merge
from trainables.models.tokenization import asking_form, encode_dialogue, encode_prompt, row_of
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask


def talk(*turns):
    return tuple(Message(*turn) for turn in turns)


CHAT = talk(("user", "is four even?"), ("assistant", "Yes"), ("user", "is five even?"), ("assistant", "No"))
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|user|>' + m.content + ' <|assistant|>' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """builtin:tiny as many families are: its tokenizer's end token is not the one that its template ends turns with."""
    folder = tmp_path_factory.mktemp("clone") / "tiny"
    shutil.copytree(BUILTIN["tiny"], folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|endoftext|>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    yield str(folder)
    load.cache_clear()


def untouched(name):
    base = load(name)
    host = Host(base, Shape(1, max_rank=0, max_prompt=0))
    evaluation = host.evaluate_untouched(LoraConfig().build(base, ArenaTask(search_size=40), 0))
    host.shut()
    return evaluation


def test_answers_end_with_the_token_that_the_template_ends_turns_with(clone):
    wanted, found = untouched("builtin:tiny"), untouched(clone)
    assert wanted.score > 0
    assert found == wanted
    base = load(clone)
    assert base.tokenizer.eos_token_id != base.eos == base.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert encode_dialogue(base.tokenizer, CHAT) == encode_dialogue(load("builtin:tiny").tokenizer, CHAT)


def test_plain_generate_of_a_merged_model_stops_where_its_answers_end(clone, tmp_path):
    base = load(clone)
    learner = LoraConfig(r=1).build(base, ArenaTask(), 0)
    held = Solo(base, learner, 0)
    (tmp_path / "adapter").mkdir()
    held.save(str(tmp_path / "adapter"))
    held.close()
    merge(clone, tmp_path / "adapter", tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    prompt = learner.prompts("search")[0]
    said = model.generate(torch.tensor([prompt]), max_new_tokens=16, pad_token_id=0)[0, len(prompt) :].tolist()
    assert said[-1] == base.eos
    assert len(said) < 16


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (None, "<end>"),
        ("{{ messages[0].content }}", "<end>"),  # shows no reply
        ("{% for m in messages %}{{ m.content }} b {% endfor %}", "<end>"),  # ends turns in words
        ("{% for m in messages %}{{ m.content }} <pad>\n{% endfor %}", "<pad>"),
        ("{{ raise_exception('no replies here') }}", "<end>"),
    ],
)
def test_without_such_a_token_answers_end_with_the_tokenizers_own(template, end):
    reader = tokenizer()
    reader.chat_template = template
    assert reader.convert_ids_to_tokens(assistant_turn(reader).end) == end


def sentencepiece(normalizer=None, pre_tokenizer=None):
    """As Llama's: a space belongs to the word behind it, and text begins with one."""
    marks = ["<unk>", "<end>", "<|user|>", "<|assistant|>"]
    words = [*marks, "▁", "\n", *"abcdefghijklmnopqrstuvwxyzQAYN:?", "Ye", "Yes", "▁Yes", "No", "▁No"]
    merges = [("Y", "e"), ("Ye", "s"), ("▁", "Yes"), ("N", "o"), ("▁", "No")]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges, unk_token="<unk>"))
    inner.normalizer, inner.pre_tokenizer = normalizer, pre_tokenizer
    inner.decoder = decoders.Metaspace()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", unk_token="<unk>")
    made.add_special_tokens({"additional_special_tokens": marks[2:]})
    return made


SPACES = pytest.mark.parametrize(
    "how",
    [
        {"pre_tokenizer": pre_tokenizers.Metaspace(prepend_scheme="first", split=False)},
        {"normalizer": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])},
    ],
    ids=["metaspace", "prepend"],
)


@pytest.mark.parametrize("template", [None, ZEPHYR], ids=["none", "template"])
@SPACES
def test_an_answer_is_what_the_tokenizer_makes_of_it_behind_its_prompt(how, template):
    reader = sentencepiece(**how)
    reader.chat_template = template
    if template:
        chat = [{"role": role, "content": text} for role, text, *_ in CHAT]
        whole, answer = reader.apply_chat_template(chat, tokenize=False).rstrip("\n"), "Yes"
    else:
        whole, answer = "Question: is four even?\nAnswer: Yes<end>\nQuestion: is five even?\nAnswer: No<end>", "▁Yes"
    wanted = reader(whole, add_special_tokens=False).input_ids
    (row,) = encode_dialogue(reader, CHAT)
    assert list(row.tokens) == wanted
    row = row_of(reader, "is four even?", "Yes")
    assert list(row.tokens) == wanted[: len(row.tokens)]
    labels = [token for token, label in zip(row.tokens, row.labels, strict=True) if label]
    assert reader.convert_ids_to_tokens(labels) == [answer, "<end>"]
    assert list(row.tokens[: -len(labels)]) == encode_prompt(reader, "is four even?")


@SPACES
def test_spaces_that_a_template_puts_around_a_reply_belong_to_it(how):
    """As in one whole conversation: `▁Yes` is what such a base says itself, and prompts are what it goes on from."""
    reader = sentencepiece(**how)
    reader.chat_template = LLAMA_2
    chat = [{"role": role, "content": text} for role, text, *_ in CHAT]
    whole = reader(reader.apply_chat_template(chat, tokenize=False), add_special_tokens=False).input_ids
    (row,) = encode_dialogue(reader, CHAT)
    assert list(row.tokens) == whole
    ends = [place for place, token in enumerate(row.tokens) if token == reader.eos_token_id]
    assert len(ends) == 2
    assert all(row.labels[place] for place in ends), "both replies end in a label"
    row = row_of(reader, "is four even?", "Yes")
    assert list(row.tokens) == whole[: len(row.tokens)]
    prompt = encode_prompt(reader, "is four even?")
    assert row.labels == (False,) * len(prompt) + (True,) * (len(whole[: ends[0]]) + 1 - len(prompt))
    assert reader.convert_ids_to_tokens(row.tokens[len(prompt) :])[-3:] == ["▁Yes", "▁", "<end>"]


def test_a_base_that_may_think_first_is_asked_not_to():
    """As its template writes an answer without a thought (Qwen3), which it leaves out of earlier turns."""
    reader = sentencepiece(pre_tokenizer=pre_tokenizers.Metaspace(split=False))
    reader.chat_template = (
        "{% for m in messages %}{{ '<|' + m.role + '|>' }}{{ 'thought:' if m.role == 'assistant' and loop.last }}"
        "{{ m.content + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{{ 'thought:' if enable_thinking is false }}{% endif %}"
    )
    chat = [{"role": role, "content": text} for role, text, *_ in CHAT]
    rows = encode_dialogue(reader, CHAT)
    for row, messages in zip(rows, (chat[:2], chat), strict=True):
        whole = reader.apply_chat_template(messages, tokenize=False)
        assert list(row.tokens) == reader(whole, add_special_tokens=False).input_ids


@pytest.mark.parametrize("marks", ["<|user|> $A <end>", "<|user|> $A", "$A <end>"])
def test_an_end_token_that_a_tokenizer_adds_by_itself_ends_no_prompt(marks):
    """`add_eos_token=True`: a beginning is kept, an end stands where a reply ends, and only there."""
    plain, told = (sentencepiece(pre_tokenizer=pre_tokenizers.Metaspace(split=False)) for _ in range(2))
    ids = [(mark, plain.convert_tokens_to_ids(mark)) for mark in ("<|user|>", "<end>")]
    told.backend_tokenizer.post_processor = processors.TemplateProcessing(single=marks, special_tokens=ids)
    begins = (ids[0][1],) if "user" in marks else ()
    for write in (lambda reader: encode_dialogue(reader, CHAT)[0], lambda reader: row_of(reader, "is it?", "Yes")):
        assert write(told).tokens == begins + write(plain).tokens
        assert write(told).labels == (False,) * len(begins) + write(plain).labels
    assert encode_prompt(told, "is it?") == [*begins, *encode_prompt(plain, "is it?")]
    assert told("is it?").input_ids != plain("is it?").input_ids, "by itself"


@pytest.mark.parametrize("template", [None, ZEPHYR, LLAMA_2], ids=["none", "zephyr", "llama 2"])
def test_what_is_put_around_a_question_makes_its_prompt(template):
    reader = sentencepiece(pre_tokenizer=pre_tokenizers.Metaspace(split=False))
    ids = [("<|user|>", reader.convert_tokens_to_ids("<|user|>"))]
    reader.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<|user|> $A", special_tokens=ids)
    reader.chat_template = template
    begun, before, behind = asking_form(reader)
    text = before + "is it?" + behind
    assert [*begun, *reader(text, add_special_tokens=False).input_ids] == encode_prompt(reader, "is it?")
    assert bool(begun) == (template is None)


def test_an_answer_that_shares_a_token_with_its_prompt_stands_apart():
    """The prompt of a row is what a completion begins from, whatever the answer."""
    inner = Tokenizer(models.BPE({"<end>": 0, "a": 1, "b": 2, "ab": 3}, [("a", "b")]))
    reader = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")
    reader.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert row_of(reader, "ba", "ba").tokens == (2, 1, 2, 1, 0)
    assert row_of(reader, "ba", "ba").labels == (False, False, True, True, True)


@pytest.mark.parametrize(
    "today",
    [
        "{{ date_string }}",
        "{% set day = date_string if date_string is defined else strftime_now('%d %b %Y') %}{{ day }}",
        "{% macro day() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{ day() }}",
    ],
)
def test_a_prompt_is_the_same_on_every_day(today, monkeypatch):
    reader = tokenizer()
    reader.chat_template = today + "{% for m in messages %}{{ m.content }}{% endfor %}"
    first = encode_prompt(reader, "a")

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 5, 9)

    monkeypatch.setattr(transformers.utils.chat_template_utils, "datetime", Tomorrow)
    assert encode_prompt(reader, "a") == first == reader("26 Jul 2024a").input_ids


TURNS = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + eos_token }}{% endfor %}"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
LEAVES_OUT = TURNS.replace("in messages", "in messages if m.role != 'system'")


@pytest.mark.parametrize("template", [REFUSES, LEAVES_OUT], ids=["refuses", "leaves out"])
def test_a_system_turn_without_a_place_goes_in_front_of_the_question(template):
    reader = tokenizer()
    reader.chat_template = template
    said = talk(("system", "b c"), ("user", "a ?"), ("assistant", "d"), ("user", "e"), ("assistant", "f"))
    moved = (Message("user", "b c\n\na ?"), *said[2:])
    assert encode_dialogue(reader, said) == encode_dialogue(reader, moved)
    plain = tokenizer()
    plain.chat_template = TURNS
    assert encode_dialogue(plain, said) != encode_dialogue(plain, moved)
    plain.chat_template = "{{ raise_exception('no more') }}"
    with pytest.raises(ValueError, match="refuses a conversation: no more"):
        encode_dialogue(plain, said[1:3])


@pytest.mark.parametrize("names", [("default", "tool_use"), ("rag", "chat"), ("mine",)])
def test_of_several_chat_templates_one_is_chosen_by_name(names, tmp_path):
    shutil.copytree(BUILTIN["tiny"], tmp_path, dirs_exist_ok=True)
    wanted = next(name for name in ("default", "chat", "mine") if name in names)
    named = [{"name": name, "template": TURNS + name} for name in names]
    (tmp_path / "chat_template.jinja").unlink()
    facts = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(facts | {"chat_template": named}))
    assert load_tokenizer(str(tmp_path)).chat_template == TURNS + wanted
    others = [{"name": name, "template": TURNS} for name in ("rag", "tool_use")]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(facts | {"chat_template": others}))
    with pytest.raises(UnknownBase, match="are rag, tool_use, and none is called default or chat; save the one"):
        load_tokenizer(str(tmp_path))


HERMES = (
    "{% if tools %}{{ '<|user|>' + tools[0].function.name + eos_token }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}"
    "{% for c in m.tool_calls %}{{ '(' + c.function.name + c.function.arguments.values() | join + ')' }}{% endfor %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOOLS = json.dumps([{"type": "function", "function": {"name": "sum"}}])
CALLS = json.dumps({"tool_calls": [{"type": "function", "function": {"name": "sum", "arguments": {"x": "four"}}}]})
CALLING = (
    *talk(("user", "add")), Message("assistant", "so", more=CALLS), Message("tool", "five"),
    *talk(("assistant", "is five"), ("user", "is it"), ("assistant", "yes")),
)  # fmt: skip


def characters():
    """A token is a character or a mark, so that texts are read back as they were."""
    marks = ["<end>", "<|user|>", "<|assistant|>", "<|tool|>"]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate([*marks, *"abcdefghijklmnopqrstuvwxyz ()"])}, []))
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")
    made.add_special_tokens({"additional_special_tokens": marks[1:]})
    return made


def learned(reader, row):
    tokens = [token for token, label in zip(row.tokens, row.labels, strict=True) if label]
    return "".join(reader.convert_ids_to_tokens(tokens))


def test_calls_of_tools_are_learned_as_the_template_writes_them():
    reader = characters()
    reader.chat_template = HERMES
    (row,) = encode_dialogue(reader, CALLING, TOOLS)
    assert "".join(reader.convert_ids_to_tokens(row.tokens)) == (
        "<|user|>sum<end><|user|>add<end><|assistant|>so(sumfour)<end><|tool|>five<end><|assistant|>is five<end>"
        "<|user|>is it<end><|assistant|>yes<end>"
    )
    assert learned(reader, row) == "so(sumfour)<end>is five<end>yes<end>"
    bad = (*CALLING[:1], CALLING[1]._replace(learned=False), *CALLING[2:])
    assert learned(reader, *encode_dialogue(reader, bad, TOOLS)) == "is five<end>yes<end>"
    (other,) = encode_dialogue(reader, CALLING)
    assert other.tokens == row.tokens[len("sum") + 2 :], "a tool that is not offered"


def test_calls_of_tools_of_a_template_that_rewrites_earlier_turns():
    reader = characters()
    reader.chat_template = HERMES.replace(
        "+ m.content }}", "+ (m.content if loop.last or m.role != 'assistant' else '') }}"
    )
    rows = encode_dialogue(reader, CALLING, TOOLS)
    assert [learned(reader, row) for row in rows] == ["so(sumfour)<end>", "is five<end>", "yes<end>"]


@pytest.mark.parametrize(
    ("template", "takes"),
    [
        (HERMES, True),
        (None, False),
        (TURNS, False),
        (HERMES.replace("if tools", "if no_tools"), False),
        (HERMES.replace("in m.tool_calls", "in m.no_calls"), False),
        (HERMES.replace("c.function.arguments.values() | join", "''"), False),
        ("{% if messages[-1].role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}" + HERMES, False),
    ],
    ids=["all", "none", "turns", "no tools", "no calls", "no arguments", "refuses"],
)
def test_whether_a_template_has_a_place_for_tools(template, takes):
    reader = characters()
    reader.chat_template = template
    assert takes_tools(reader) == takes


def test_without_a_template_there_are_no_tools():
    with pytest.raises(ValueError, match=r"no chat template, so no form for tools; leave such out: --task\.no-tools"):
        encode_dialogue(characters(), CALLING)
