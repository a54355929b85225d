"""A trial in a host of its own: training, resuming, faults and schedules, against torch's AdamW and by hand."""

from __future__ import annotations

from dataclasses import replace

import peft
import pytest
import torch

from tests.miniatures import base, model
from tests.toys import Letters
from trainables.adamw import schedule
from trainables.adapters import lora_config
from trainables.core import Optimizer
from trainables.host import Host
from trainables.learners.hybrid import HybridConfig
from trainables.learners.lora import LoraConfig
from trainables.learners.soft_prompt import SoftPromptConfig
from trainables.own_model import with_peft
from trainables.shape import HostFull, Shape
from trainables.solo import Solo

LEARNERS = {"lora": LoraConfig, "soft_prompt": SoftPromptConfig, "hybrid": HybridConfig}


def test_training_curve_equals_peft_with_torch_adamw():
    """200 steps with weight decay and a biting clip, each loss against a plain loop over PEFT's model.

    In float64 but for what transformers does in float32 (norms), whose rounding errors training amplifies.
    """
    config = LoraConfig(learning_rate=1e-3, r=4, weight_decay=0.1, max_grad_norm=0.5, steps_per_round=1)
    ours = base("qwen2", torch.float64)
    learner = config.build(ours, Letters(), seed=3)
    host = Solo(ours, learner, seed=3)
    rows = config.build(ours, Letters(), seed=3)

    theirs = model("qwen2", torch.float64)
    torch.manual_seed(3)
    wrapped = peft.get_peft_model(
        theirs, peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    )
    wrapped.eval().double()
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)
    losses = []
    for _ in range(200):
        batch = rows.next_rows()
        labels = [[t if is_label else -100 for t, is_label in zip(r.tokens, r.labels, strict=True)] for r in batch]
        logits = wrapped(input_ids=torch.tensor([r.tokens for r in batch])).logits  # its own loss would be in float32
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), torch.tensor(labels)[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert [host.round()["loss"] for _ in losses] == pytest.approx(losses, abs=1e-4)


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
    assert second["loss"] < first["loss"]
    assert straight.evaluate()["score"] >= before["score"]

    half = opened()
    half.round()
    (tmp_path / "state.pt").write_bytes(half.state())
    resumed = opened()
    resumed.load((tmp_path / "state.pt").read_bytes())
    again = resumed.round()
    assert again["loss"] == second["loss"]
    a, b = straight.values(), resumed.values()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert again["steps"] == second["steps"] == 30


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
    metrics = host.round("a")
    assert metrics["loss"] != metrics["loss"]
    assert (len(calls), metrics["steps"]) == (3, 2)
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
            return own.round()["loss"], {name: p.detach().clone() for name, p in own.parameters.items()}
        host = Host(ours)
        host.open("a", learner)
        return host.round("a")["loss"], host.values("a")

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
    metrics = host.round("a")
    assert 0 <= metrics["correct_before_update"] <= metrics["correct_after_update"] <= 1
    assert metrics["correct_after_update"] > 0, "one question asked forty times is learned"


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
    assert host.evaluate("a") == untouched


@pytest.mark.parametrize(
    ("kind", "step", "factor"),
    [("constant", 0, 0.25), ("constant", 3, 1.0), ("constant", 99, 1.0), ("linear", 4, 1.0), ("linear", 9, 0.5),
     ("linear", 14, 0.0), ("cosine", 9, 0.5), ("cosine", 14, 0.0), ("cosine", 50, 0.0)],
)  # fmt: skip
def test_schedules_by_hand(kind, step, factor):
    settings = Optimizer(1.0, lr_scheduler_type=kind, warmup_steps=4, total_steps=14)
    assert schedule(settings, step) == pytest.approx(factor)
