"""A trial in a host of its own: training, resuming, faults and schedules, against torch's AdamW and by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import peft
import pytest
import torch

from tests.support.miniatures import base, model
from tests.support.toys import Letters, untimed
from trainables.learners.arc.lora_ttt.learner import LoraTttConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.peft_adapters import lora_config
from trainables.optimizer import Optimizer
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.packed.specs import HostFull, Shape
from trainables.training.standalone import with_peft

LEARNERS = {"lora": LoraConfig, "soft_prompt": SoftPromptConfig, "hybrid": HybridConfig}
QUICK = {"learning_rate": 1e-3, "r": 4, "weight_decay": 0.1, "steps_per_round": 1}
MOMENTS = {
    "early": {"adam_beta1": 0.0, "adam_beta2": 0.9, "adam_epsilon": 1e-3},
    "usual": {},
    "late": {"adam_beta1": 0.98, "adam_beta2": 0.99999, "adam_epsilon": 1e-6},
}


def plain_losses(config, steps, dtype=torch.float64):
    """The losses of a plain loop over PEFT's model with torch's AdamW.

    In float64 but for what transformers does in float32 (norms), whose rounding errors training amplifies.
    """
    rows = config.build(base("qwen2"), Letters(), seed=3)
    theirs = model("qwen2", dtype)
    torch.manual_seed(3)
    wrapped = peft.get_peft_model(
        theirs, peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    )
    wrapped.eval()
    if dtype == torch.float64:  # PEFT keeps adapters of a base in 16 bits in float32, and would keep these so, too
        wrapped.to(dtype)
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
    )
    losses = []
    for _ in range(steps):
        batch = rows.next_rows()
        labels = [[t if is_label else -100 for t, is_label in zip(r.tokens, r.labels, strict=True)] for r in batch]
        logits = wrapped(input_ids=torch.tensor([r.tokens for r in batch])).logits  # its own loss would be in float32
        wide = logits[:, :-1].flatten(0, 1).to(torch.promote_types(dtype, torch.float32))
        loss = torch.nn.functional.cross_entropy(wide, torch.tensor(labels)[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_curve_equals_peft_with_torch_adamw():
    """200 steps with weight decay and a biting clip."""
    config = LoraConfig(**QUICK, max_grad_norm=0.5)
    ours = base("qwen2", torch.float64)
    host = Solo(ours, config.build(ours, Letters(), seed=3), seed=3)
    losses = plain_losses(config, 200)
    assert losses[-1] < 0.8 * losses[0]
    assert [host.round().loss for _ in losses] == pytest.approx(losses, abs=1e-4)


def test_on_a_base_in_bfloat16_the_curve_is_that_of_peft_with_float32_adapters():
    """As far as bfloat16 goes: padded rows are rounded otherwise than unpadded ones."""
    config = LoraConfig(**QUICK, max_grad_norm=0.5)
    ours = base("qwen2", torch.bfloat16)
    host = Solo(ours, config.build(ours, Letters(), seed=3), seed=3)
    losses = plain_losses(config, 50, torch.bfloat16)
    assert losses[-1] < 0.8 * losses[0]
    assert [host.round().loss for _ in losses] == pytest.approx(losses, abs=2e-2)


def test_seats_of_differing_betas_each_equal_torch_adamw():
    """Side by side for 40 steps, and each a curve of its own."""
    ours = base("qwen2", torch.float64)
    host = Host(ours, Shape(len(MOMENTS), lanes=24, max_rank=4, max_prompt=0))
    configs = {name: LoraConfig(**QUICK, **fields) for name, fields in MOMENTS.items()}
    for name, config in configs.items():
        host.open(name, config.build(ours, Letters(), seed=3), seed=3)
    rounds = [host.run(dict.fromkeys(configs, "round")) for _ in range(40)]
    for name, config in configs.items():
        assert [one[name].loss for one in rounds] == pytest.approx(plain_losses(config, 40), abs=1e-4), name
    last = sorted(one.loss for one in rounds[-1].values())
    assert min(b - a for a, b in pairwise(last)) > 1e-2


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_32bit"])
def test_a_model_of_its_own_has_the_same_betas(optim, moments):
    config = LoraConfig(**QUICK, **MOMENTS[moments])
    ours = base("qwen2")
    learner = with_peft(ours, lora_config(ours, config.adapter()), config.build(ours, Letters(), seed=3), 3, optim)
    losses = [learner.round().loss for _ in range(20)]
    assert losses == pytest.approx(plain_losses(config, 20, torch.float32), abs=1e-3)


@pytest.mark.parametrize("betas", [(0.0, 0.0), (0.9, 0.999), (0.99, 0.99999)])
def test_steps_are_those_of_torch_in_float32(betas):
    """1 - 0.99999 is 0.14 % off where 0.99999 is rounded first."""
    host = Host(base("qwen2"))
    host.open("a", LoraConfig().build(host.base, Letters(), 0))
    values, optimizer = host.stack.values, host.optimizer
    parameter = torch.nn.Parameter(values[0].clone())
    theirs = torch.optim.AdamW([parameter], 1e-2, betas, weight_decay=0.1)
    settings = Optimizer(1e-2, weight_decay=0.1, adam_beta1=betas[0], adam_beta2=betas[1], max_grad_norm=float("inf"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.gradient[0] = parameter.grad
        optimizer.step({0: settings}, optimizer.norms())
        theirs.step()
    torch.testing.assert_close(values[0], parameter.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"), [("adam_beta1", 1.0), ("adam_beta2", -0.1), ("adam_beta2", float("nan")), ("adam_epsilon", 0.0)]
)
@pytest.mark.parametrize("config", [LoraConfig, LoraTttConfig])
def test_moments_that_cannot_be_are_refused(config, field, value):
    with pytest.raises(ValueError, match=f"^{field} is {value}; "):
        config(**{field: value})


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_learn_resume_bit_identically_and_judge(name, tmp_path):
    """Two rounds in one go equal one round, a state through a file, a fresh host, and the second round."""
    config = LEARNERS[name](steps_per_round=15, learning_rate=2e-2)
    if name != "soft_prompt":
        config = replace(config, lora_dropout=0.2)

    def opened():
        ours = base("qwen2")
        return Solo(ours, config.build(ours, Letters(), 0), seed=0)

    straight = opened()
    before = straight.evaluate()
    first, second = straight.round(), straight.round()
    assert second.loss < first.loss
    assert straight.evaluate().score >= before.score

    half = opened()
    half.round()
    (tmp_path / "state.pt").write_bytes(half.state())
    resumed = opened()
    resumed.load((tmp_path / "state.pt").read_bytes())
    again = resumed.round()
    assert again.loss == second.loss
    a, b = straight.values(), resumed.values()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert again.metrics["steps"] == second.metrics["steps"] == 30


def test_nan_stops_the_round_and_leaves_the_adapter():
    ours = base("qwen2")
    learner = LoraConfig(steps_per_round=5).build(ours, Letters(), 0)
    calls = []

    def poisoned(logprobs, rows, stock=learner.loss):
        calls.append(1)
        return stock(logprobs, rows) * (float("nan") if len(calls) == 3 else 1.0)

    learner.loss = poisoned
    host = Host(ours)
    host.open("a", learner)
    trained = host.round("a")
    assert trained.loss != trained.loss
    assert (len(calls), trained.metrics["steps"]) == (3, 2)
    assert all(p.isfinite().all() for p in host.values("a").values())


class Unequal(Letters):
    """Every third answer is long: a mean per token of a short one's micro-batch says little about the whole batch."""

    def train(self):
        return [replace(e, answer=" ".join([e.answer] * (1 if i % 3 else 30))) for i, e in enumerate(super().train())]


@pytest.mark.parametrize("alone", [False, True], ids=["in a seat", "in a model of its own"])
def test_accumulation_equals_one_large_batch(alone):
    def trained(rows, micro_batches):
        ours = base("qwen2")
        config = LoraConfig(steps_per_round=3, learning_rate=1e-2, per_device_train_batch_size=rows,
                            gradient_accumulation_steps=micro_batches)  # fmt: skip
        learner = config.build(ours, Unequal(), 0)
        if alone:
            own = with_peft(ours, lora_config(ours, config.adapter()), learner, 0)
            return own.round().loss, {name: p.detach().clone() for name, p in own.parameters.items()}
        host = Host(ours)
        host.open("a", learner)
        return host.round("a").loss, host.values("a")

    loss, one = trained(4, 1)
    for rows, micro_batches in ((2, 2), (1, 4)):
        again, other = trained(rows, micro_batches)
        assert again == pytest.approx(loss, rel=1e-5)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


def test_online_watches_every_update():
    ours = base("qwen2")
    config = SoftPromptConfig(mode="online", watch_updates=True, steps_per_round=40, learning_rate=0.1)
    host = Host(ours)
    host.open("a", config.build(ours, Letters(size=1), 0))
    trained = host.round("a")
    assert 0 <= trained.metrics["correct_before_update"] <= trained.metrics["correct_after_update"] <= 1
    assert trained.metrics["correct_after_update"] > 0, "one question asked forty times is learned"


def test_a_host_has_one_seat_and_says_who_holds_it():
    ours = base("qwen2")
    host = Host(ours)
    learner = LoraConfig().build(ours, Letters(), 0)
    host.open("first", learner)
    host.open("first", learner)  # a restarted trial may open again
    with pytest.raises(HostFull, match="first"):
        host.open("second", learner)
    with pytest.raises(HostFull, match="max_rank"):
        Host(ours, Shape(max_rank=8)).open("large", learner)
    host.close("first")
    host.close("first")
    host.open("second", learner)


def test_untouched_equals_lora_before_training():
    ours = base("qwen2")
    host = Host(ours)
    learner = LoraConfig().build(ours, Letters(), 0)
    untouched = host.evaluate_untouched(learner)
    host.open("a", learner)
    assert untimed(host.evaluate("a")) == untimed(untouched)


@pytest.mark.parametrize(
    ("kind", "step", "factor"),
    [("constant", 0, 0.25), ("constant", 3, 1.0), ("constant", 99, 1.0), ("linear", 4, 1.0), ("linear", 9, 0.5),
     ("linear", 14, 0.0), ("cosine", 9, 0.5), ("cosine", 14, 0.0), ("cosine", 50, 0.0)],
)  # fmt: skip
def test_schedules_by_hand(kind, step, factor):
    settings = Optimizer(1.0, lr_scheduler_type=kind, warmup_steps=4, total_steps=14)
    assert settings.lr_factor(step) == pytest.approx(factor)
