"""NEFTune: how large the noise is, whom it touches, and that it is the same again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.integrations.neftune import neftune_post_forward_hook

from tests.support.miniatures import CONFIGS, base
from tests.support.packing_kit import BASE, SHAPE, alone, opened, said, same
from tests.support.packing_kit import CONFIGS as KINDS
from tests.support.scripted_learner import scripted
from tests.support.toys import Letters
from trainables.core import Adapter, Row
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.models.peft_adapters import lora_config
from trainables.optimizer import Optimizer
from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.batching import build_batch
from trainables.packed.host import Host
from trainables.packed.requests import TrainRequest
from trainables.packed.solo import Solo
from trainables.training.neftune import amplitude, noised, noisy
from trainables.training.standalone import with_peft

NOISY = {name: replace(KINDS[name], neftune_noise_alpha=5.0) for name in ("lora", "wide", "prompt", "both")}


def test_the_noise_is_uniform_up_to_its_bound():
    key, bound = torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([0.5, 0.0, 0.1])
    x = torch.ones(3, 40, 200)
    moved = noised(key, bound, x) - x
    assert torch.equal(moved[1], torch.zeros(40, 200))
    for lane, size in ((0, 0.5), (2, 0.1)):
        assert 0.99 * size < moved[lane].abs().max() <= size + 1e-6
        assert moved[lane].mean() == pytest.approx(0, abs=0.02 * size)
        assert moved[lane].std() == pytest.approx(size / 3**0.5, rel=0.02)
    assert torch.equal(noised(key, bound, x) - x, moved)
    assert torch.corrcoef(torch.stack([moved[0].flatten(), moved[2].flatten()]))[0, 1].abs() < 0.05


def test_in_bfloat16_the_noise_is_float32s_rounded_once():
    """In a model of one's own, where the numbers themselves were rounded before they were scaled."""
    table, row = torch.nn.Embedding(50, 64), Row(tuple(range(40)), (False,) * 40)
    torch.nn.init.zeros_(table.weight)

    class Model:
        def get_input_embeddings(self):
            return table

    def noise():
        with noisy(Model(), [row], torch.tensor([9], dtype=torch.int32), 5.0), torch.no_grad():
            return table(torch.tensor([row.tokens]))

    wanted = noise()
    table.to(torch.bfloat16)
    assert wanted.any()
    assert torch.equal(noise(), wanted.to(torch.bfloat16))


def test_the_bound_is_that_of_transformers_hook():
    """alpha / sqrt(L d), of a row without padding."""
    embedding = torch.nn.Embedding(50, 64).requires_grad_(False)
    embedding.neftune_noise_alpha = 5.0
    ids = torch.arange(40)[None]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = neftune_post_forward_hook(embedding, (ids,), embedding(ids)) - embedding(ids)
    bound = amplitude(5.0, 40, 64)
    assert bound == pytest.approx(5 / (40 * 64) ** 0.5)
    ours = noised(torch.tensor([9], dtype=torch.int32), torch.tensor([bound]), embedding(ids)) - embedding(ids)
    assert 0.99 * bound < theirs.abs().max() <= bound * (1 + 1e-5)
    assert 0.99 * bound < ours.abs().max() <= bound * (1 + 1e-5)
    assert ours.std() == pytest.approx(theirs.std().item(), rel=0.05)


@pytest.mark.parametrize("prompt", [0, 3])
def test_only_a_rows_own_tokens_are_moved_and_padding_does_not_matter(prompt):
    """L counts the row's tokens, neither padding nor virtual ones; those and rows without alpha stay as they are."""
    stack = AdapterStack(BASE, 2, 4, prompt)
    stack.values[0] = 1.0
    short, long = Row((5, 6, 7, 1), (False, True, True, True)), Row((*range(5, 20),), (False,) + (True,) * 14)
    learner = scripted(Adapter(r=2, num_virtual_tokens=prompt))
    request = TrainRequest(0, learner, [short, long], seed=1, step=2, micro=3, share=1.0)
    plain = request.lanes()
    learner.optimizer = Optimizer(neftune_noise_alpha=5.0)
    noise = request.lanes()
    quiet = BASE.model.get_input_embeddings()(build_batch(stack, plain, 4, 24).tokens)
    if prompt:
        quiet = build_batch(stack, plain, 4, 24).inputs["inputs_embeds"]
    moved = build_batch(stack, noise, 4, 24).inputs["inputs_embeds"] - quiet
    for lane, length in ((0, 4), (1, 15)):
        own = moved[lane, -length:].abs().max()
        assert 0.9 * amplitude(5.0, length, 32) < own <= amplitude(5.0, length, 32) * (1 + 1e-4)
        assert not moved[lane, 24 - length - prompt : 24 - length].any(), "virtual tokens"
    assert not moved[2:].any()
    wider = build_batch(stack, noise[:1], 1, 32).inputs["inputs_embeds"][0, -4:]
    assert torch.equal(wider, build_batch(stack, noise, 4, 24).inputs["inputs_embeds"][0, -4:])
    mixed = build_batch(stack, [plain[0], noise[1]], 4, 24).inputs["inputs_embeds"]
    assert torch.equal(mixed[0], quiet[0])


@pytest.mark.parametrize("name", NOISY)
def test_a_noisy_seat_is_bit_identical_whoever_sits_beside_it(name):
    wanted, quiet = alone(NOISY[name], rounds=2), alone(KINDS[name], rounds=1)
    assert wanted.losses[0] != quiet.losses[0], "noise must matter"
    host = Host(BASE, SHAPE)
    opened(host, "first", KINDS["wide"], seed=5)
    opened(host, "t", NOISY[name])
    opened(host, "other", NOISY["both"], seed=7)
    for number in range(2):
        assert host.run(dict.fromkeys(host.trial_ids, "round"))["t"].loss == wanted.losses[number]
        assert same(host.values("t"), wanted.values[number])
        assert said(host.evaluate("t")) == wanted.said[number]
    host.shut()


@pytest.mark.parametrize("family", CONFIGS)
def test_a_seat_without_noise_keeps_its_bits_beside_one_with(family):
    """Where a batch has noise, models get embeddings, not tokens."""
    ours, shape = base(family), replace(SHAPE, max_prompt=0)
    config = LoraConfig(r=4, steps_per_round=2, per_device_train_batch_size=2, lora_dropout=0.1)
    found = []
    for beside in ([], [replace(config, neftune_noise_alpha=10.0)]):
        host = Host(ours, shape)
        host.open("t", config.build(ours, Letters(), 0), 0)
        for other in beside:
            host.open("other", other.build(ours, Letters(), 1), 1)
        losses = [host.run(dict.fromkeys(host.trial_ids, "round"))["t"].loss for _ in range(2)]
        found.append((losses, host.values("t")))
        host.shut()
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_noise_goes_on_as_it_would_have_and_never_reaches_an_evaluation():
    ours, config = base("qwen2"), LoraConfig(r=4, steps_per_round=2, neftune_noise_alpha=20.0)
    first = Solo(ours, config.build(ours, Letters(), 0), 0)
    first.round()
    state, items = first.state(), first.evaluate().items
    wanted = first.round().loss
    first.close()
    second = Solo(ours, replace(config, neftune_noise_alpha=0.0).build(ours, Letters(), 0), 0)
    second.load(state)
    assert second.evaluate().items == items
    assert second.round().loss != wanted
    second.close()
    third = Solo(ours, config.build(ours, Letters(), 0), 0)
    third.load(state)
    assert third.round().loss == wanted
    third.close()


@pytest.mark.parametrize("kind", ["peft", "full"])
def test_a_model_of_one_trial_is_given_noise_in_training_alone(kind):
    def made(alpha, seed=0):
        ours = base("qwen2")
        if kind == "full":
            return FullConfig(steps_per_round=2, neftune_noise_alpha=alpha).build(ours, Letters(), seed)
        config = LoraConfig(r=4, steps_per_round=2, neftune_noise_alpha=alpha)
        return with_peft(ours, lora_config(ours, config.adapter()), config.build(ours, Letters(), seed), seed)

    learner, quiet = made(10.0), made(0.0)
    assert learner.evaluate().items == quiet.evaluate().items
    first = learner.round().loss
    assert first != quiet.round().loss
    state, wanted = learner.state(), learner.round().loss
    again = made(10.0)
    assert again.round().loss == first
    again.load(state)
    assert again.round().loss == wanted
    embeddings = learner.model.train().get_input_embeddings()
    assert torch.equal(embeddings(torch.arange(8)), embeddings.weight[:8]), "no noise outside a round"


def test_a_model_of_one_trial_keeps_to_the_bound():
    rows = [Row((5, 6, 7, 1), (False, True, True, True)), Row((5, 6), (False, True))]
    model, ids = base("qwen2").model, torch.tensor([[5, 6, 7, 1], [5, 6, 1, 1]])
    quiet = model.get_input_embeddings()(ids)
    with noisy(model, rows, torch.tensor([1, 2], dtype=torch.int32), 5.0):
        moved = (model.get_input_embeddings()(ids) - quiet).abs().amax((1, 2))
    for size, length in zip(moved.tolist(), (4, 2), strict=True):
        assert 0.9 * amplitude(5.0, length, 32) < size <= amplitude(5.0, length, 32) * (1 + 1e-4)
    assert torch.equal(model.get_input_embeddings()(ids), quiet)


def test_a_negative_alpha_is_refused():
    with pytest.raises(ValueError, match=r"neftune_noise_alpha is -1\.0"):
        LoraConfig(neftune_noise_alpha=-1.0)
