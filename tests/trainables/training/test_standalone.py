"""Learners with a model of their own: against the host's numbers, beside the base, and short of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from search_spaces import ia3
from sweeps.spec.sweep import Sweep
from tests.support.miniatures import base
from tests.support.scripted_learner import ROWS, completing, scripted
from tests.support.toys import Letters
from trainables.core import Adapter, Pair, Row
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.ia3 import Ia3Config
from trainables.learners.lm.lora import LoraConfig
from trainables.models.loading import load
from trainables.models.peft_adapters import lora_config
from trainables.packed.solo import Solo
from trainables.training.oom import MAX_HALVINGS, gradients
from trainables.training.row_masks import RowDropout
from trainables.training.standalone import with_peft

ALONE = {"dora": DoraConfig, "ia3": Ia3Config, "full": FullConfig}


def test_lora_in_a_model_of_its_own_is_the_hosts_lora():
    """PEFT's modules, autograd and torch's AdamW against hooks and the stacked optimizer, evaluation included."""
    config = LoraConfig(r=4, steps_per_round=10, weight_decay=0.1, gradient_accumulation_steps=2, warmup_steps=5)
    ours = base("qwen2")
    host = Solo(ours, config.build(ours, Letters(), 3), 3)
    packed = [(host.round().loss, host.evaluate().items) for _ in range(3)]
    host.close()
    theirs = base("qwen2")
    learner = with_peft(theirs, lora_config(theirs, config.adapter()), config.build(theirs, Letters(), 3), 3)
    for loss, items in packed:
        assert learner.round().loss == pytest.approx(loss, rel=1e-4)
        assert learner.evaluate().items == items


@pytest.mark.parametrize("name", ALONE)
def test_the_base_is_given_back_as_it_was(name):
    ours = base("qwen2")
    before = {key: value.clone() for key, value in ours.model.state_dict().items()}
    learner = ALONE[name](steps_per_round=4).build(ours, Letters(), 0)
    untouched = learner.evaluate().items
    first, second = learner.round(), learner.round()
    assert second.loss < first.loss
    learner.close()
    after = ours.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(p.requires_grad for p in ours.model.parameters())
    again = ALONE[name]().build(ours, Letters(), 0)
    assert again.evaluate().items == untouched
    again.close()


@pytest.mark.parametrize("long", [120, 121])
def test_what_a_base_has_no_place_for_is_refused_by_whoever_is_asked(long):
    """GPT-2 has learned a vector for each of 128 places, and 8 tokens are to be said."""
    prompts = [[5] * long, [6]]
    ours, lora = base("gpt2"), Adapter(r=2, lora_alpha=4)
    seat = Solo(ours, scripted(lora, evaluation=lambda: completing(prompts)), 0)
    learner = scripted(lora, evaluation=lambda: completing(prompts))
    own = with_peft(base("gpt2"), lora_config(ours, lora), learner, 0)
    asked = [seat.evaluate, own.evaluate, lambda: seat.host.evaluate_untouched(learner)]
    if long == 120:
        said, *others = [one().metrics["tokens"] for one in asked]
        assert others == [said, said]
    else:
        for one in asked:
            with pytest.raises(ValueError, match=r"121 tokens and 8 beside them.* pass the 128 places") as error:
                one()
            assert "\n" not in str(error.value)
    own.learner.next_rows = lambda: [Row((5,) * 129, (False,) * 128 + (True,))]
    with pytest.raises(ValueError, match=r"129 tokens and 0 beside them.* pass the 128 places"):
        own.round()


def test_trainable_parameters_by_hand():
    """The miniature has hidden size 32, keys and values of 16, MLPs of 48, two layers."""
    hidden, kv, inner = 32, 16, 48
    counted = {}
    for name, fields in (("full", {}), ("dora", {"r": 4}), ("ia3", {})):
        ours = base("qwen2")
        learner = ALONE[name](steps_per_round=1, **fields).build(ours, Letters(), 0)
        counted[name] = learner.round().trainable_parameters
        learner.close()
    assert counted["full"] == sum(p.numel() for p in base("qwen2").model.parameters())
    assert counted["dora"] == 2 * (4 * (hidden + hidden) + hidden + 4 * (hidden + kv) + kv)  # q, v, and a length each
    assert counted["ia3"] == 2 * (hidden + kv + inner)  # PEFT scales this family at q, v and down


@pytest.mark.parametrize("name", ALONE)
def test_on_a_base_in_bfloat16_weights_and_moments_are_float32(name):
    learner = ALONE[name](steps_per_round=2).build(base("qwen2", torch.bfloat16), Letters(), 0)
    learner.round()
    moments = [own[kind] for own in learner.optimizer.state.values() for kind in ("exp_avg", "exp_avg_sq")]
    assert len(moments) == 2 * len(learner.parameters)
    for values in (*learner.parameters.values(), *moments):
        assert values.dtype == torch.float32
    learner.close()


def test_ia3_is_never_drawn_to_silence():
    """Decoupled decay draws to 0, and its vectors change nothing at 1."""
    Sweep("ia3", (Pair(Ia3Config(), Letters(), "builtin:tiny"),), ia3.SPACE).validate()
    assert "weight_decay" not in ia3.SPACE.axes
    with pytest.raises(ValueError, match=r"^weight_decay is 0.1; it pulls IA3's vectors to 0, .* leave it at 0"):
        Ia3Config(weight_decay=0.1)


def test_four_bit_weights_are_refused_by_name(tmp_path):
    base("qwen2").model.save_pretrained(tmp_path)
    base("qwen2").tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"quantized weights of .*:nf4"):
        FullConfig().build(load(f"{tmp_path}:nf4"), Letters(), 0)
    load.cache_clear()


@pytest.mark.parametrize("name", ALONE)
def test_short_of_memory_the_numbers_stay(name):
    """Three rows at a time where eight were asked for: the same losses and completions, and the trial says so."""
    config = ALONE[name](steps_per_round=3)
    plenty = config.build(base("qwen2"), Letters(size=30), 0)
    wanted, items = plenty.round().loss, plenty.evaluate().items
    learner = config.build(base("qwen2"), Letters(size=30), 0)
    room = {"rows": 3}
    learner.model.get_input_embeddings().register_forward_pre_hook(lambda module, inputs: refuse(inputs, room))
    trained = learner.round()
    assert trained.loss == pytest.approx(wanted, rel=1e-5)
    assert trained.metrics["memory_halvings"] == 2
    room["rows"] = 20
    assert learner.evaluate().items == items
    room["rows"] = 0
    with pytest.raises(torch.OutOfMemoryError):
        learner.round()
    assert "memory_halvings" not in plenty.round().metrics


DRAWING = {  # whose training draws, where a batch's rows are of four lengths
    "dropout": ("qwen2", DoraConfig(r=4, lora_dropout=0.3)),
    "noise": ("qwen2", FullConfig(neftune_noise_alpha=5.0)),
    "dropout of the base and its attention": ("gpt2", FullConfig()),
    "dropout of attention alone": ("qwen2", FullConfig()),
    "eager attention": ("gpt2", FullConfig()),
}


def drawing(name):
    family, config = DRAWING[name]
    ours = base(family)
    if name == "dropout of attention alone":
        for module in ours.model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.3
    if name == "eager attention":
        ours.model.set_attn_implementation("eager")
    learner = config.build(ours, Letters(), 0)
    learner.learner.next_rows = lambda: list(ROWS)
    learner.model.train()
    return learner


@pytest.mark.parametrize("name", DRAWING)
def test_what_a_row_draws_does_not_depend_on_where_memory_cuts_its_batch(name):
    found = []
    for halvings in range(3):
        learner = drawing(name)
        learner.halvings = halvings
        learner.backward(ROWS, 0, 1.0)
        found.append([None if p.grad is None else p.grad.clone() for p in learner.parameters.values()])
    for parts in found[1:]:
        for own, whole in zip(parts, found[0], strict=True):
            torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-6)
    learner.model.eval()
    learner.model.zero_grad()
    learner.learner.optimizer = replace(learner.learner.optimizer, neftune_noise_alpha=0.0)
    learner.backward(ROWS, 0, 1.0)
    quiet = [p.grad for p in learner.parameters.values()]
    assert any(own is not None and not torch.allclose(own, q, rtol=1e-2) for own, q in zip(parts, quiet, strict=True))


@pytest.mark.parametrize("name", DRAWING)
def test_a_resumed_round_draws_what_it_would_have_drawn(name):
    learner = drawing(name)
    learner.round()
    state, wanted = learner.state(), learner.round().loss
    torch.rand(3)
    other = drawing(name)
    other.load(state)
    assert other.round().loss == wanted


def test_masks_of_rows_drop_as_many_as_they_should_and_keep_the_mean():
    keys = torch.arange(200, dtype=torch.int32)
    with RowDropout(keys):
        first, second = (torch.nn.functional.dropout(torch.ones(200, 30, 40), 0.3) for _ in range(2))
        as_one = torch.nn.functional.dropout(torch.ones(200 * 30, 40), 0.3)
        assert torch.equal(torch.nn.functional.dropout(torch.ones(3), 0.3, training=False), torch.ones(3))
    assert set(first.unique().tolist()) == {0.0, (torch.ones(1) / 0.7).item()}
    assert (first == 0).float().mean() == pytest.approx(0.3, abs=0.005)
    for one in (second, as_one.view(200, 30, 40), first.roll(1, 0), first.roll(1, 1), first.roll(1, 2)):
        assert torch.corrcoef(torch.stack([first.flatten(), one.flatten()]))[0, 1].abs() < 0.02
    with RowDropout(keys[:1]):
        assert torch.equal(torch.nn.functional.dropout(torch.ones(1, 50, 40), 0.3)[:, :30], first[:1])

    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 6, 8, generator=generator) for heads in (4, 2, 2))
    whole = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    many = [x.expand(4000, -1, -1, -1) for x in (query, key, value)]
    with RowDropout(torch.arange(4000, dtype=torch.int32)):
        dropped = torch.nn.functional.scaled_dot_product_attention(
            *many, dropout_p=0.3, is_causal=True, enable_gqa=True
        )
    assert not torch.allclose(dropped[:1], whole, atol=0.1)
    torch.testing.assert_close(dropped.mean(0, keepdim=True), whole, rtol=0.05, atol=0.05)


def refuse(inputs, room):
    if len(inputs[0]) > room["rows"]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_gradients_in_parts_are_those_of_the_whole():
    """The loss mixes all rows, with never more than three rows in a graph."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 5, generator=generator, dtype=torch.float64)
    w = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    unused = torch.zeros(3, requires_grad=True)
    sizes = []

    def forward(first, last):
        if torch.is_grad_enabled():
            sizes.append(last - first)
        return [(x[i] * w).tanh() for i in range(first, last)]

    def loss(rows):
        return torch.stack([row.sum() for row in rows]).logsumexp(0) * rows[0][1]

    whole = gradients(forward, loss, [w, unused], 10, 10)
    assert sizes == [10]
    parts = gradients(forward, loss, [w, unused], 10, 3)
    assert max(sizes[1:]) == 3
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-12, atol=1e-14)
    assert whole[1] is parts[1] is None
    assert gradients(forward, lambda rows: None, [w], 10, 3) == [None]
    assert MAX_HALVINGS == 3
