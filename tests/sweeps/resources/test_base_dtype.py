"""Which bases are measured, what is chosen of what machines say, and under which name the choice travels."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import LlamaConfig

from sweeps.resources.base_dtype import choose_dtypes, in_words, with_dtypes
from sweeps.spec.deserialize import rebuild
from tests.support.knobs import ONE
from tests.support.toys import Letters
from trainables.core import Pair
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import BaseName


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The configuration of a base of 2 x 30 million parameters, without weights."""
    folder = tmp_path_factory.mktemp("large")
    layer = {"num_hidden_layers": 1, "hidden_size": 600, "intermediate_size": 64, "num_attention_heads": 6}
    LlamaConfig(vocab_size=50_000, **layer).save_pretrained(folder)
    return str(folder)


def on(base, *learners, **changes):
    pairs = tuple(Pair(learner, Letters(), base) for learner in learners or (LoraConfig(),))
    return replace(ONE, pairs=pairs, space={pair.learner.name: ONE.space for pair in pairs}, **changes)


def refuse():
    raise AssertionError("nothing is to be measured")


@pytest.mark.parametrize(
    ("speedups", "dtype", "speedup"),
    [([4.0], "bfloat16", 4.0), ([1.4], "float32", 1.4), ([0.8], "float32", 0.8), ([6.0, 0.251], "float32", 0.25)],
)
def test_one_slow_machine_is_enough_for_float32(large, speedups, dtype, speedup):
    chosen = choose_dtypes(on(large), len(speedups), lambda: speedups)
    assert chosen == {large: {"dtype": dtype, "speedup": speedup}}


def test_machines_that_are_not_up_yet_may_be_slow(large):
    chosen = choose_dtypes(on(large), 3, lambda: [6.0])
    assert chosen == {large: {"dtype": "float32", "speedup": None}}
    assert in_words(chosen) == [f"{large} in float32: not all machines are up (--base {large}:bfloat16 for the other)"]


def test_a_gguf_file_is_said_without_its_hash_and_keeps_it():
    sha256 = "0" * 64
    base = f"/models/mine.gguf:sha256={sha256}"
    (line,) = in_words({base: {"dtype": "bfloat16", "speedup": 4.0}})
    assert line.startswith("/models/mine.gguf in bfloat16: bfloat16 is 4 times as fast as float32")
    assert "(--base /models/mine.gguf:float32 for the other)" in line
    (pair,) = with_dtypes(on(base), {base: {"dtype": "bfloat16", "speedup": 4.0}}).pairs
    parsed = BaseName.parse(pair.base)
    assert (parsed.options, parsed.sha256) == ({"bfloat16"}, sha256)


@pytest.mark.parametrize("option", ["float32", "bfloat16", "nf4", "nf4:bfloat16"])
def test_a_dtype_that_was_named_is_kept(large, option):
    assert choose_dtypes(on(f"{large}:{option}"), 1, refuse) == {}


def test_small_bases_and_gpus_are_not_measured(large):
    assert choose_dtypes(on("builtin:tiny"), 1, refuse) == {}
    assert choose_dtypes(on(large, resources_per_trial={"gpu": 0.5}), 1, refuse) == {}


def test_a_float32_copy_alone_needs_no_choice(large):
    assert choose_dtypes(on(large, FullConfig()), 1, refuse) == {}
    assert [*choose_dtypes(on(large, FullConfig(), LoraConfig()), 1, lambda: [4.0])] == [large]


def test_the_choice_is_part_of_the_name_that_travels(large):
    sweep = with_dtypes(on(large, FullConfig(), LoraConfig()), choose_dtypes(on(large), 1, lambda: [4.0]))
    assert [pair.base for pair in sweep.pairs] == [f"{large}:bfloat16"] * 2
    assert BaseName.parse(sweep.pairs[0].base) == BaseName(large, frozenset({"bfloat16"}))
    assert [pair.base for pair in rebuild({"sweep": sweep.to_dict()}).pairs] == [f"{large}:bfloat16"] * 2
    assert choose_dtypes(sweep, 1, refuse) == {}, "it is not chosen again"
