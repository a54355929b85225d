"""The one-seat host against stock PEFT, autograd and torch's AdamW, on miniatures of six model families."""

from __future__ import annotations

from dataclasses import replace

import peft
import pytest
import torch

from tests.miniatures import CONFIGS, base, model
from tests.toys import Letters
from trainables.core import Adapter, Optimizer, Row
from trainables.decoding import generate, label_logprobs
from trainables.host import Host, HostFull, Seated, schedule
from trainables.learners.hybrid import HybridConfig
from trainables.learners.lora import LoraConfig
from trainables.learners.soft_prompt import SoftPromptConfig
from trainables.seat import SeatAdapter

FAMILIES = list(CONFIGS)
PROMPTS = [[5, 6, 7], [5, 6, 7, 8, 9, 10, 11], [12]]
ROWS = [Row((*p, 20, 21, 1), (False,) * len(p) + (True,) * 3) for p in PROMPTS]
LEARNERS = {"lora": LoraConfig, "soft_prompt": SoftPromptConfig, "hybrid": HybridConfig}


def scrambled(parameters):
    """Give B and the prompt values that matter; B is zero at the start."""
    torch.manual_seed(1)
    for parameter in parameters.values():
        torch.nn.init.normal_(parameter, std=0.2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapter", [Adapter(r=4, lora_alpha=8), Adapter(num_virtual_tokens=3)], ids=["lora", "prompt"])
def test_gradients_equal_peft_on_unpadded_rows(family, adapter):
    ours = base(family, torch.float64)
    seat = SeatAdapter(ours, adapter, seed=0)
    for parameter in seat.parameters().values():
        parameter.data = parameter.data.double()
    scrambled(seat.parameters())
    loss = -sum(row.sum() for row in label_logprobs(ours, ROWS, seat.prompt)) / 9
    loss.backward()

    wrapped = seat._lora or seat._prompt  # PEFT's own forward, one row at a time, nothing padded
    expected = 0.0
    for row in ROWS:
        logprobs = wrapped(input_ids=torch.tensor([row.tokens])).logits[0, -len(row.tokens) :].log_softmax(-1)
        expected = expected - sum(logprobs[i - 1, t] for i, t in enumerate(row.tokens) if row.labels[i]) / 9
    wanted = torch.autograd.grad(expected, list(seat.parameters().values()))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    for (name, parameter), gradient in zip(seat.parameters().items(), wanted, strict=True):
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_equals_transformers(family):
    """Greedy, left-padded, compacted: the same tokens as transformers' own generate, row by row."""
    ours = base(family)
    completions, ended = generate(ours, PROMPTS * 2, 8, None)
    for prompt, tokens, end in zip(PROMPTS * 2, completions, ended, strict=True):
        wanted = ours.model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=8, do_sample=False
        )[0, len(prompt) :].tolist()
        assert end == (1 in wanted)
        assert tokens == (wanted[: wanted.index(1)] if end else wanted)


def test_generation_stops_rows_one_by_one():
    """A prompt that ends early does not change the others, and its end token is not part of it."""
    ours = base("qwen2")
    outputs = {}
    for prompt in ([a, b] for a in range(4, 60, 5) for b in range(4, 60, 7)):
        outputs[tuple(prompt)] = generate(ours, [prompt], 12, None)
    batch = [list(p) for p in outputs]
    completions, ended = generate(ours, batch, 12, None, batch_size=64)
    assert {len(c) for c in completions} != {12}, "some rows must end early for this test to mean anything"
    assert completions == [o[0][0] for o in outputs.values()]
    assert ended == [o[1][0] for o in outputs.values()]


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
    for adapter in (Adapter(r=4, lora_alpha=8), Adapter(num_virtual_tokens=5), Adapter(3, 3, num_virtual_tokens=2)):
        seat = SeatAdapter(ours, adapter, seed=0)
        assert sum(p.numel() for p in seat.parameters().values()) == formula(family, adapter)
        scrambled(seat.parameters())
        seat.close()
        after = dict(ours.model.named_parameters())
        assert after.keys() == before.keys()
        assert all(torch.equal(before[n], after[n]) and not after[n].requires_grad for n in before)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_adapters_load_with_peft(family, tmp_path):
    """What is saved gives the same log-probabilities through `PeftModel.from_pretrained` on a fresh base."""
    for kind, adapter in {
        "lora": Adapter(r=4, lora_alpha=8),
        "prompt": Adapter(num_virtual_tokens=3),
        "both": Adapter(r=4, lora_alpha=8, num_virtual_tokens=3),
    }.items():
        ours = base(family)
        seat = SeatAdapter(ours, adapter, seed=0)
        scrambled(seat.parameters())
        wanted = torch.cat(label_logprobs(ours, ROWS, seat.prompt))
        folder = tmp_path / kind
        seat.save(str(folder))
        fresh = model(family)
        if kind == "both":
            fresh = peft.PeftModel.from_pretrained(fresh, folder / "lora").merge_and_unload()
            fresh = peft.PeftModel.from_pretrained(fresh, folder / "soft_prompt")
        else:
            fresh = peft.PeftModel.from_pretrained(fresh, folder)
        fresh.eval()
        got = []
        for row in ROWS:
            logits = fresh(input_ids=torch.tensor([row.tokens])).logits[0, -len(row.tokens) :]
            logprobs = logits.log_softmax(-1)
            got += [logprobs[i - 1, token] for i, token in enumerate(row.tokens) if row.labels[i]]
        torch.testing.assert_close(torch.stack(got), wanted, rtol=2e-5, atol=2e-5)


def test_training_curve_equals_peft_with_torch_adamw():
    """20 steps with weight decay and a biting clip, against a plain loop over PEFT's model."""
    config = LoraConfig(learning_rate=1e-2, r=4, weight_decay=0.1, max_grad_norm=0.5, steps_per_round=20)
    ours = base("qwen2")
    learner = config.build(ours, Letters(), seed=3)
    host = Host(ours)
    host.open("a", learner, seed=3)
    rows = config.build(ours, Letters(), seed=3)

    theirs = model("qwen2")
    torch.manual_seed(3)
    wrapped = peft.get_peft_model(
        theirs, peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"])
    ).eval()
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(20):
        batch = rows.next_rows()
        labels = [[t if is_label else -100 for t, is_label in zip(r.tokens, r.labels, strict=True)] for r in batch]
        loss = wrapped(input_ids=torch.tensor([r.tokens for r in batch]), labels=torch.tensor(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert host.round("a")["loss"] == pytest.approx(sum(losses) / 20, abs=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_learn_resume_bit_identically_and_judge(name, tmp_path):
    """Two rounds in one go equal one round, a state through a file, a fresh host, and the second round."""
    config = LEARNERS[name](steps_per_round=15, learning_rate=2e-2)
    if name != "soft_prompt":
        config = replace(config, lora_dropout=0.2)

    def opened():
        ours = base("qwen2")
        return Seated(Host(ours), "t", config.build(ours, Letters(), 0), seed=0)

    straight = opened()
    before = straight.evaluate()
    first, second = straight.round(), straight.round()
    assert second["loss"] < first["loss"]
    assert straight.evaluate()["score"] >= before["score"]

    half = opened()
    half.round()
    torch.save(half.state(), tmp_path / "state.pt")
    resumed = opened()
    resumed.load(torch.load(tmp_path / "state.pt", weights_only=False))
    again = resumed.round()
    assert again["loss"] == second["loss"]
    a, b = straight.state(), resumed.state()
    assert all(torch.equal(a["parameters"][n], b["parameters"][n]) for n in a["parameters"])
    assert a["step"] == b["step"] == 30


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
    assert all(p.isfinite().all() for p in host.state("a")["parameters"].values())


def test_accumulation_equals_one_large_batch():
    def trained(**fields):
        ours = base("qwen2")
        config = LoraConfig(steps_per_round=3, learning_rate=1e-2, **fields)
        host = Host(ours)
        host.open("a", config.build(ours, Letters(), 0))
        host.round("a")
        return host.state("a")["parameters"]

    one = trained(per_device_train_batch_size=4)
    two = trained(per_device_train_batch_size=2, gradient_accumulation_steps=2)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


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
    with pytest.raises(HostFull, match="first"):
        host.evaluate_untouched(learner)
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
