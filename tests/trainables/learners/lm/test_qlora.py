"""QLoRA on a miniature in 4 bits: it learns, goes on exactly, steps as AdamW does, and PEFT loads what it saves."""

from __future__ import annotations

import peft
import pytest
import torch

from tests.support.miniatures import base, four_bit_base
from tests.support.toys import Letters
from trainables.learners.lm.qlora import QloraConfig
from trainables.optimizer import Optimizer
from trainables.training.optimizers import load_optimizer_state, open_adamw, paged_parameters, second_moment

OPTIMS = ["paged_adamw_32bit", "paged_adamw_8bit", "adamw_torch"]
QUICK = {"steps_per_round": 4, "r": 4, "learning_rate": 1e-2}


def opened(optim="paged_adamw_32bit", seed=0, **fields):
    return QloraConfig(**QUICK | fields, optim=optim).build(four_bit_base(), Letters(), seed)


@pytest.mark.parametrize("optim", OPTIMS)
def test_it_learns_and_goes_on_exactly(optim):
    """Moments of matrices of 4,096 numbers and more are in 8 bits where asked for: r 128 makes such."""
    fields = {"r": 128, "lora_dropout": 0.1, "weight_decay": 0.1}
    learner = opened(optim, **fields)
    losses = [learner.round().loss for _ in range(2)]
    assert losses[1] < 0.8 * losses[0]
    state, items, wanted = learner.state(), learner.evaluate().items, [learner.round().loss for _ in range(2)]
    other = opened(optim, seed=0, **fields)
    other.load(state)
    assert other.evaluate().items == items
    assert [other.round().loss for _ in range(2)] == wanted
    if optim == "paged_adamw_8bit":
        kept = [own for own in learner.optimizer.state.values() if own["state1"].dtype == torch.uint8]
        assert kept
        assert {own["state1"].numel() >= 4096 for own in kept} == {True}


def test_what_is_paged_is_said():
    """Nothing is, on a CPU; and nothing is claimed of an optimizer that never pages."""
    first = opened().round()
    assert first.metrics["paged_parameters"] == 0
    assert "without_gradient" not in first.metrics, "a gradient reached every module"
    assert "paged_parameters" not in opened("adamw_torch").round().metrics


def test_every_linear_layer_but_the_head_unless_named():
    learner = opened()
    assert adapted(learner) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    hidden, kv, inner = 32, 16, 48
    sizes = 2 * (hidden + hidden) + 2 * (hidden + kv) + 3 * (hidden + inner)
    assert learner.round().trainable_parameters == 2 * 4 * sizes
    named = opened(target_modules=("q_proj",))
    assert adapted(named) == {"q_proj"}


def adapted(learner):
    return {name.split(".lora_")[0].split(".")[-1] for name in learner.parameters}


def test_a_base_that_is_not_in_4_bits_is_refused():
    with pytest.raises(ValueError, match="use --base mini-qwen2:nf4, or train lora"):
        QloraConfig().build(base("qwen2"), Letters(), 0)


def test_peft_loads_what_is_saved(tmp_path):
    learner = opened()
    learner.round()
    learner.model.eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    wanted = learner.model(input_ids=ids).logits
    learner.save(str(tmp_path))
    loaded = peft.PeftModel.from_pretrained(four_bit_base().model, tmp_path).eval()
    torch.testing.assert_close(loaded(input_ids=ids).logits, wanted, rtol=1e-6, atol=1e-6)
    untouched = four_bit_base().model(input_ids=ids).logits
    assert not torch.allclose(untouched, wanted, atol=1e-3)


def test_the_base_is_given_back_in_4_bits():
    ours = four_bit_base()
    ids = torch.tensor([[5, 6, 7, 8]])
    before = ours.model(input_ids=ids).logits
    learner = QloraConfig(**QUICK).build(ours, Letters(), 0)
    learner.round()
    learner.close()
    assert torch.equal(ours.model(input_ids=ids).logits, before)
    assert not any("lora" in name for name, _ in ours.model.named_parameters())


def steps(optim, count, shape=(64, 96), first=None):
    """A parameter after so many steps of the same gradients, and its optimizer."""
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(shape, generator=generator))
    optimizer = open_adamw(optim, [parameter], Optimizer(1e-2, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.99))
    for number in range(count):
        parameter.grad = torch.randn(shape, generator=generator)
        if number == first:
            state = optimizer.state_dict()
            optimizer = open_adamw(
                optim, [parameter], Optimizer(1e-2, weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.99)
            )
            load_optimizer_state(optimizer, state)
        optimizer.step()
    return parameter.detach(), optimizer


def test_steps_are_those_of_torch():
    """To rounding in 32 bits, and to quantization in 8."""
    wanted, _ = steps("adamw_torch", 20)
    got, optimizer = steps("paged_adamw_32bit", 20)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert paged_parameters(optimizer) == 0
    rough, _ = steps("paged_adamw_8bit", 20)
    assert not torch.allclose(rough, wanted, atol=1e-5)
    torch.testing.assert_close(rough, wanted, rtol=0, atol=0.03)  # 20 steps of 0.01 go up to 0.2 away


@pytest.mark.parametrize("optim", OPTIMS)
def test_an_optimizer_goes_on_from_its_state(optim):
    wanted, optimizer = steps(optim, 8)
    again, _ = steps(optim, 8, first=5)
    assert torch.equal(again, wanted)
    assert second_moment(next(iter(optimizer.state.values()))).any()
    assert second_moment({}) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optim", OPTIMS[:2])
def test_moments_are_paged_on_a_gpu_and_again_after_a_restart(optim):
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(6, 512, 256, generator=generator)

    def after(restart):
        parameter = torch.nn.Parameter(torch.ones(512, 256, device="cuda"))
        optimizer = open_adamw(optim, [parameter], Optimizer(1e-2))
        for number, gradient in enumerate(gradients):
            if number == restart:
                state = optimizer.state_dict()
                optimizer = open_adamw(optim, [parameter], Optimizer(1e-2))
                load_optimizer_state(optimizer, state)
            parameter.grad = gradient.cuda()
            optimizer.step()
        assert paged_parameters(optimizer) == parameter.numel()
        return parameter.detach()

    assert torch.equal(after(3), after(None))
