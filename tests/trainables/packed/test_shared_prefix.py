"""A prefix that all prompts of a trial share is read once, and changes no completion."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.miniatures import base, linear_modules
from tests.support.scripted_learner import completing, scripted
from tests.support.toys import untimed
from trainables.core import Adapter, Evaluation
from trainables.packed import decoding
from trainables.packed.host import Host
from trainables.packed.shared_prefix import SharedPrefix, shared_prefix
from trainables.packed.specs import Shape

SYSTEM = [7, 30, 12, 9, 41, 8, 22, 15, 5, 19, 33, 28, 11, 6, 17, 25, 40, 3, 14, 21]
QUESTIONS = [[a, b] + [a] * (a % 3 * 5) for a in range(4, 60, 5) for b in range(4, 60, 7)]
ASKED = {  # trial -> (virtual tokens, prompts): two share a system turn, one has its own, one has few rows
    "lora": (0, [SYSTEM + question for question in QUESTIONS]),
    "hybrid": (5, [SYSTEM + question for question in QUESTIONS[3:70]]),
    "other": (5, [SYSTEM[::-1] + question for question in QUESTIONS[:40]]),
    "few": (2, [SYSTEM + question for question in QUESTIONS[:3]]),
    "virtual": (9, QUESTIONS[:50]),
}
SEEDS = {"qwen2": 1, "llama": 0, "lfm2": 0, "gpt2": 5, "phi3": 2, "phi": 2}  # with which adapters matter


def seated(*names: str, family: str = "qwen2", dtype: torch.dtype = torch.float32) -> Host:
    """Return a host with these trials, each with an adapter that changes its completions."""
    ours = base(family, dtype, SEEDS[family])
    ours.model.lm_head.weight = torch.nn.Parameter(ours.model.lm_head.weight.detach().clone(), requires_grad=False)
    ours.model.lm_head.weight.data[ours.eos] *= 4  # rows end early, and at different times
    host = Host(ours, Shape(len(ASKED), max_rank=4, max_prompt=9))
    for name in names:
        virtual, prompts = ASKED[name]
        adapter = Adapter(4, 8.0, target_modules=linear_modules(ours), num_virtual_tokens=virtual)
        host.open(name, scripted(adapter, evaluation=lambda own=prompts: completing(own)))
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        for part in host.trials[name].made.values:
            own = host.trials[name].tensor(part, None)
            own.copy_(torch.randn(own.shape, generator=generator) * 0.1)
    return host


def prefilled_tokens(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the tokens (padding included) of every forward pass of several tokens from now on."""
    counts, run = [], host.stack.run

    def counted(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        rows, tokens = inputs.get("inputs_embeds", inputs.get("input_ids")).shape[:2]
        counts.extend([rows * tokens] if tokens > 1 else [])
        return run(lanes, *args, **inputs)

    monkeypatch.setattr(host.stack, "run", counted)
    return counts


@pytest.mark.parametrize(("threads", "dtype"), [(1, torch.float32), (2, torch.float32), (1, torch.bfloat16)])
def test_a_trial_has_the_same_bits_whoever_shares_a_prefix_beside_it(threads: int, dtype: torch.dtype) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = seated(*ASKED, dtype=dtype).run(dict.fromkeys(ASKED, "evaluate"))
        for name in ASKED:
            assert untimed(seated(name, dtype=dtype).evaluate(name)) == untimed(together[name]), name
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("family", SEEDS)
def test_completions_are_those_of_whole_prompts(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to rounding: attention adds up the same keys in another order."""
    sharing = seated(*ASKED, family=family)
    few = prefilled_tokens(sharing, monkeypatch)
    shared = sharing.run(dict.fromkeys(ASKED, "evaluate"))
    monkeypatch.setattr(decoding, "shared_prefix", lambda rows, virtual: None)
    plain = seated(*ASKED, family=family)
    many = prefilled_tokens(plain, monkeypatch)
    whole = plain.run(dict.fromkeys(ASKED, "evaluate"))
    for name in ASKED:
        _assert_alike(shared[name], whole[name])
    assert len({tuple(map(tuple, one.metrics["tokens"][:3])) for one in whole.values()}) > 1, "adapters must matter"
    assert sum(few) < 0.8 * sum(many) or family == "lfm2"  # its convolutions keep no cache that could be joined


def _assert_alike(one: Evaluation, other: Evaluation) -> None:
    assert one.metrics["tokens"] == other.metrics["tokens"]
    for own, others in zip(one.metrics["logprobs"], other.metrics["logprobs"], strict=True):
        assert own == pytest.approx(others, abs=1e-4)


def test_prefixes_by_hand() -> None:
    rows = [[1, 2, 3, *[0] * 30, 4, 5], [1, 2, 3, *[0] * 30, 6]] * 20
    assert shared_prefix(rows, 0) == SharedPrefix(33, 40, 48)  # 33 and a padded column: 40; 2 and 1: 8
    assert shared_prefix(rows, 7) == SharedPrefix(33, 48, 56)
    assert shared_prefix([*rows, [9, 2]], 0) is None
    assert shared_prefix([[1] * 20] * 100, 0) == SharedPrefix(19, 24, 32)  # one token of each row is its own
    assert shared_prefix(rows[:8], 0) is None  # eight rows would save no more than the eight lanes cost
