"""A host with one seat against stock PEFT, autograd and torch's AdamW, on miniatures of six model families."""

from __future__ import annotations

import zlib
from dataclasses import replace

import peft
import psutil
import pytest
import torch

from tests.support.miniatures import BLOOM, CONFIGS, base, linear_modules, model
from tests.support.scripted_learner import PROMPTS, ROWS, scripted
from trainables.core import Adapter, Read
from trainables.models.peft_adapters import initial_adapter
from trainables.packed.host import Host
from trainables.packed.requests import TrainRequest
from trainables.packed.solo import Solo
from trainables.packed.specs import Shape
from trainables.training.hash_dropout import keep_mask, lane_key, mix, mix_number

FAMILIES = list(CONFIGS)
ADAPTERS = {
    "lora": Adapter(r=4, lora_alpha=8),
    "prompt": Adapter(num_virtual_tokens=3),
    "both": Adapter(r=4, lora_alpha=8, num_virtual_tokens=3),
}


def scrambled(host):
    """Give B and the prompt of trial `a` values that matter; B is zero at the start."""
    torch.manual_seed(1)
    seat = host.trials["a"]
    for name, value in seat.made.values.items():
        seat.tensor(name, None).copy_(torch.randn(value.shape) * 0.2)
    return {name: value.clone() for name, value in host.values("a").items()}


def stock(family, adapter, values, dtype=torch.float32):
    """PEFT's own model with these values; its prompt stands before every row. (model, {our name: its parameter})"""
    made, parameters = model(family, dtype), {}
    if adapter.num_virtual_tokens:
        prompted = peft.get_peft_model(
            made, next(iter(initial_adapter(base(family, dtype), adapter, 0).configs.values()))
        )
        parameters["prompt"] = prompted.prompt_encoder["default"].embedding.weight
    if adapter.r:
        config = initial_adapter(base(family, dtype), replace(adapter, num_virtual_tokens=0), 0).configs["lora"]
        config.inference_mode = False
        wrapped = peft.get_peft_model(made, config, autocast_adapter_dtype=False)
        for name, module in wrapped.base_model.model.named_modules():
            if hasattr(module, "lora_A"):
                for half, layers in (("A", module.lora_A), ("B", module.lora_B)):
                    parameters[f"{name}.{half}"] = layers["default"].weight
    assert parameters.keys() == values.keys()
    for name, parameter in parameters.items():
        parameter.data = values[name].clone()
        parameter.requires_grad_()
    return (prompted if adapter.num_virtual_tokens else wrapped), parameters


def stock_logprobs(wrapped, row):
    logits = wrapped(input_ids=torch.tensor([row.tokens])).logits[0, -len(row.tokens) :]
    logprobs = logits.log_softmax(-1)
    return torch.stack([logprobs[i - 1, token] for i, token in enumerate(row.tokens) if row.labels[i]])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_gradients_equal_peft_on_unpadded_rows(family, kind):
    """In float64, through left padding, empty lanes and pads of rank and prompt, against PEFT row by row."""
    adapter = ADAPTERS[kind]
    host = Host(base(family, torch.float64), Shape(2, lanes=5, max_rank=6, max_prompt=4))
    learner = scripted(adapter)
    host.open("a", learner)
    values = scrambled(host)
    (loss,) = host.executor.train([TrainRequest(0, learner, ROWS, 0, 0, 0, 1.0)])

    wrapped, parameters = stock(family, adapter, values, torch.float64)
    expected = -torch.cat([stock_logprobs(wrapped, row) for row in ROWS]).mean()
    wanted = dict(zip(parameters, torch.autograd.grad(expected, list(parameters.values())), strict=True))
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    got = host.trials["a"].values(host.optimizer.gradient)
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-10)
    inside = sum(gradient.square().sum() for gradient in wanted.values())
    assert host.optimizer.gradient.square().sum() == pytest.approx(inside.item()), "pads and empty slots get nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_an_update_is_rounded_once_as_in_peft(family):
    """On the same batch nearly every logit has PEFT's bits; rounding the update before it is added leaves few."""
    ids = torch.tensor([prompt[:5] for prompt in PROMPTS if len(prompt) >= 5])
    host = Host(base(family, torch.bfloat16), Shape(1, max_rank=4, max_prompt=0))
    host.open("a", scripted(ADAPTERS["lora"]))
    wrapped, _ = stock(family, ADAPTERS["lora"], scrambled(host), torch.bfloat16)
    with torch.no_grad():
        got = host.stack.run(torch.zeros(len(ids), dtype=torch.long), None, 0, input_ids=ids).logits
        wanted = wrapped(input_ids=ids).logits
    assert got.dtype == wanted.dtype == torch.bfloat16
    assert (got == wanted).float().mean() > 0.9


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_peft_under_the_same_dropout_masks(family):
    """PEFT's dropout modules, on every product, are given our masks, which depend on row key and place alone."""
    ours = base(family, torch.float64)
    adapter = Adapter(r=4, lora_alpha=8, lora_dropout=0.3, target_modules=linear_modules(ours))
    host = Host(ours, Shape(2, lanes=5, max_rank=6, max_prompt=0))
    learner = scripted(adapter)
    host.open("a", learner, seed=9)
    values = scrambled(host)
    (loss,) = host.executor.train([TrainRequest(0, learner, ROWS, seed=9, step=4, micro=1, share=1.0)])
    wrapped, parameters = stock(family, adapter, values, torch.float64)
    row_now = []
    for name, module in wrapped.base_model.model.named_modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = Masked(name, row_now)
    logprobs = []
    for number, row in enumerate(ROWS):
        row_now[:] = [lane_key(9, 4, 1, number)]
        logprobs.append(stock_logprobs(wrapped, row))
    expected = -torch.cat(logprobs).mean()
    wanted = dict(zip(parameters, torch.autograd.grad(expected, list(parameters.values())), strict=True))
    assert all(gradient.abs().max() > 0 for gradient in wanted.values())
    plain = -torch.cat(host.logprobs(ROWS, "a")).mean().item()
    assert abs(plain - loss) > 1e-3, "the masks must matter"
    assert loss == pytest.approx(expected.item(), rel=1e-10)
    got = host.trials["a"].values(host.optimizer.gradient)
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-10)


class Masked(torch.nn.Module):
    """Dropout with our masks, for rows of one lane."""

    def __init__(self, name, key):
        super().__init__()
        self.number, self.key = zlib.crc32(name.encode()) >> 8, key

    def forward(self, x):
        return x * keep_mask(torch.tensor(self.key, dtype=torch.int32), torch.tensor([0.3]), self.number, x)


def test_a_round_says_the_most_memory_that_was_taken():
    """Without a device it is this process's peak: at least its memory now, less what the system counts otherwise."""
    host = Host(base("qwen2"))
    host.open("a", scripted(ADAPTERS["lora"]))
    assert host.round("a").metrics["peak_memory_mib"] > 0.9 * psutil.Process().memory_info().rss / 2**20 > 50


def test_a_module_is_hashed_alike_as_a_number_and_as_a_tensor():
    numbers = [0, 1, 12_345, 2**23, 2**31 - 1, -1, -(2**31)]
    assert [mix_number(n) for n in numbers] == mix(torch.tensor(numbers, dtype=torch.int32)).tolist()


def test_dropout_keeps_its_share_and_its_scale():
    x = torch.zeros(2, 50, 400)
    mask = keep_mask(torch.tensor([1, 2], dtype=torch.int32), torch.tensor([0.25, 0.0]), 7, x)
    assert (mask[0] == 0).float().mean() == pytest.approx(0.25, abs=0.02)
    assert mask[0].mean() == pytest.approx(1.0, abs=0.02)
    assert (mask[1] == 1).all()
    other = keep_mask(torch.tensor([3], dtype=torch.int32), torch.tensor([0.25]), 7, x[:1])[0]
    assert ((other == 0) == (mask[0] == 0)).float().mean() == pytest.approx(0.75**2 + 0.25**2, abs=0.02)


def test_what_is_read_of_the_untouched_base_is_read_once_for_all_trials():
    """The answer is the base's own, whatever was trained in the seat that asks."""
    ours, rows, passes, read = base("qwen2"), [*ROWS, ROWS[0]], [], []
    host = Host(ours, Shape(2, lanes=2))

    def prepare():
        read.append(((yield Read(rows, untouched=True)), (yield Read(rows))))

    for name in ("a", "b"):
        learner = scripted(ADAPTERS["both"])
        learner.prepare = prepare
        host.open(name, learner)
    scrambled(host)
    hook = ours.model.register_forward_hook(lambda *ignored: passes.append(1))
    for name in ("a", "b"):
        host.start(name, "round")
    host.tick()
    hook.remove()
    assert len(passes) == 3  # four rows of three sizes, none of them twice
    while host.busy:
        host.tick()
    logits = [ours.model(torch.tensor([row.tokens])).logits[0].log_softmax(-1) for row in rows]
    alone = [[own[i - 1, row.tokens[i]].item() for i in range(len(row.tokens)) if row.labels[i]]
             for own, row in zip(logits, rows, strict=True)]  # fmt: skip
    assert read[0][0] == read[1][0] == [pytest.approx(own, abs=1e-4) for own in alone]
    assert read[0][1] != read[0][0]


def formula(family, adapter):
    """Trainable parameters by hand: r (in + out) per LoRA module and layer, and one vector per virtual token."""
    hidden, kv, inner = 32, 16, 48
    shapes = {
        "qwen2": [(hidden, hidden), (hidden, kv)],  # q, v
        "llama": [(hidden, hidden), (hidden, kv)],
        "lfm2": [(hidden, hidden), (hidden, kv)],
        "gpt2": [(hidden, 3 * hidden)],  # c_attn
        "phi3": [(hidden, hidden + 2 * kv), (hidden, hidden)],  # qkv, o
        "phi": [(hidden, hidden)] * 2 + [(hidden, inner), (inner, hidden)],  # q, v, fc1, fc2
    }[family]
    layers = 1 if family == "lfm2" else 2  # one of Lfm2's two layers is a convolution
    return adapter.num_virtual_tokens * hidden + layers * sum(adapter.r * (i + o) for i, o in shapes)


@pytest.mark.parametrize("family", FAMILIES)
def test_trainable_parameters_by_formula_and_base_given_back(family):
    ours = base(family)
    before = {name: p.clone() for name, p in ours.model.named_parameters()}
    untouched = ours.model(torch.tensor(PROMPTS[1:2])).logits
    for adapter in (*ADAPTERS.values(), Adapter(3, 3, num_virtual_tokens=2)):
        learner = Solo(ours, scripted(adapter), seed=0)
        assert learner.round().trainable_parameters == formula(family, adapter)
        learner.close()
        after = dict(ours.model.named_parameters())
        assert after.keys() == before.keys()
        assert all(torch.equal(before[n], after[n]) and not after[n].requires_grad for n in before)
        assert torch.equal(ours.model(torch.tensor(PROMPTS[1:2])).logits, untouched)


@pytest.mark.parametrize("family", CONFIGS | BLOOM)
@pytest.mark.parametrize("kind", ADAPTERS)
def test_saved_adapters_load_with_peft(family, kind, tmp_path):
    """What is saved gives the same log-probabilities through `PeftModel.from_pretrained` on a fresh base."""
    host = Host(base(family), Shape(1, lanes=3))
    host.open("a", scripted(ADAPTERS[kind]))
    scrambled(host)
    host.save("a", str(tmp_path))
    loaded = model(family)
    if kind == "both":
        loaded = peft.PeftModel.from_pretrained(loaded, tmp_path / "lora").merge_and_unload()
        loaded = peft.PeftModel.from_pretrained(loaded, tmp_path / "soft_prompt")
    else:
        loaded = peft.PeftModel.from_pretrained(loaded, tmp_path)
    got = torch.cat([stock_logprobs(loaded.eval(), row) for row in ROWS])
    torch.testing.assert_close(got, torch.cat(host.logprobs(ROWS, "a")), rtol=2e-5, atol=2e-5)
