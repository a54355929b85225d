"""Logits are computed where labels are, at most about twice as many; how many, a row's own seat alone decides."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.miniatures import base
from tests.support.packing_kit import same
from tests.support.scripted_learner import scripted
from trainables.core import Adapter, Row
from trainables.packed.host import Host
from trainables.packed.specs import Shape

BASE = base("qwen2", seed=2)
LORA = Adapter(r=4, lora_alpha=8.0)
TOKENS = 250


def row(labels: int, tokens: int = TOKENS) -> Row:
    ids = [5 + (7 * i + labels) % 50 for i in range(tokens)]
    return Row(tuple(ids), (False,) * (tokens - labels) + (True,) * labels)


def opened(*labels: int) -> Host:
    """A seat for each number of labels, with that many in its longest answer and fewer in another."""
    host = Host(BASE, Shape(len(labels), lanes=8, max_rank=4, max_prompt=0))
    for count in labels:
        host.open(str(count), scripted(LORA, [row(count), row(max(1, count // 3))]), seed=count)
    return host


@pytest.mark.parametrize("labels", [1, 8, 9, 16, 17, 33, 65, 129, 249])
def test_positions_with_logits_are_few_beside_labels(labels: int) -> None:
    host, seen = opened(labels), []
    head: Any = BASE.model.lm_head
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    host.round(str(labels))
    host.logprobs([row(labels)], str(labels))
    hook.remove()
    host.shut()
    assert len(seen) == 2
    assert all(labels < positions <= max(9, 2 * labels) for positions in seen)


def test_what_is_read_is_what_the_whole_row_gives() -> None:
    host, rows = Host(BASE, Shape(1)), [row(labels) for labels in (3, 12, 31, 32, 100, 249)]
    for own, got in zip(rows, host.logprobs(rows), strict=True):
        logprobs = BASE.model(torch.tensor([own.tokens])).logits[0, :-1].log_softmax(-1)
        wanted = logprobs.gather(-1, torch.tensor(own.tokens)[1:, None])[-sum(own.labels) :, 0]
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-4)


def test_seats_with_few_and_many_labels_keep_their_bits_side_by_side() -> None:
    """All of one width: three in sizes of their own, and two that share one."""
    counts = (3, 12, 40, 60, 200)
    together = opened(*counts)
    results = [together.run(dict.fromkeys(map(str, counts), "round")) for _ in range(2)]
    for count in counts:
        alone, name = opened(count), str(count)
        assert [alone.round(name).loss for _ in range(2)] == [result[name].loss for result in results]
        assert same(alone.values(name), together.values(name)), name
