"""A prompt that is read once for its completions: who sees whom, and loss and gradients as of single rows."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support.miniatures import CONFIGS, base
from tests.support.scripted_learner import judged, scripted
from trainables.core import Adapter, Read, Row
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.training.groups import grouped, joined_branches
from trainables.training.sequence_packing import TRUNK, document_attention, document_outline

LORA = Adapter(r=4, lora_alpha=8)
LIMITS = {"rtol": 1e-5, "atol": 1e-7}  # some models compute their norms in float32


def completion(prompt: tuple[int, ...], said: tuple[int, ...]) -> Row:
    labels = (False,) * len(prompt) + (True,) * len(said)
    return Row((*prompt, *said), labels, branches=(len(prompt) - 1,))


FIRST, SECOND = (5, 6, 7, 8, 9), (12, 13, 14)
ROWS = [
    completion(FIRST, (20, 21, 1)),
    completion(SECOND, (30, 1)),
    completion(FIRST, (22, 1)),
    completion(FIRST, (23, 24, 25, 1)),
    completion(SECOND, (31, 32, 1)),
]


def test_who_sees_whom_by_hand() -> None:
    """Two tokens of padding, a trunk of two, and branches of two and one."""
    documents, places = document_outline(2, 5, (), (2, 4))
    assert documents == [0, 0, TRUNK, TRUNK, 1, 1, 2]
    assert places == [0, 0, 0, 1, 2, 3, 2]
    seen = document_attention(torch.tensor([documents]), base("qwen2").model)[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 0, 1],
    ]


def test_rows_of_a_prompt_are_joined_by_hand() -> None:
    groups = grouped(ROWS, [0, 1, 3, 4], base("qwen2"), 0)
    assert [own.members for own in groups] == [[0, 3], [1, 4]]
    assert groups[1].row.tokens == (12, 13, 14, 30, 1, 14, 31, 32, 1)
    assert groups[1].row.labels == (False, False, False, True, True, False, True, True, True)
    assert groups[1].row.branches == (2, 5)


def test_rows_stay_apart_where_joining_them_is_wrong_or_costs_more() -> None:
    ours = base("qwen2")
    apart = [[i] for i in range(len(ROWS))]

    def members(rows: list[Row], on: Any = ours, virtual: int = 0) -> list[list[int]]:
        return [own.members for own in grouped(rows, range(len(rows)), on, virtual)]

    assert members(ROWS) == [[0, 2, 3], [1, 4]]
    assert members(ROWS, virtual=3) == apart
    assert members(ROWS, base("lfm2")) == apart, "its convolution carries one branch into the next"
    assert members([replace(row, branches=()) for row in ROWS]) == apart
    long = [completion(SECOND, (20,) * (10 * ours.hidden_size))] * 2
    assert members(long) == [[0], [1]], "attention of each to the other costs more than three tokens"
    narrow = base("phi3")
    narrow.model = copy.deepcopy(narrow.model)
    narrow.model.config.sliding_window = 8
    assert members(ROWS, narrow) == [[0, 2], [1, 4], [3]], "row 3 has more tokens than the window"


def trained(ours: Any, rows: list[Row]) -> tuple[float, dict[str, torch.Tensor], list[float]]:
    """The loss, the gradients and the log-probabilities of a host whose adapter matters."""

    def ask() -> Any:
        read = yield Read(rows, once=True)
        return judged(logprobs=[value for row in read for value in row])

    host = Host(ours, Shape(2, lanes=8, max_rank=6))
    host.open("a", scripted(LORA, rows, ask))
    generator, seat = torch.Generator().manual_seed(1), host.trials["a"]
    for name, value in seat.values().items():
        seat.tensor(name, None).copy_(torch.randn(value.shape, generator=generator, dtype=value.dtype) * 0.2)
    logprobs = host.evaluate("a").metrics["logprobs"]
    seen: dict[str, torch.Tensor] = {}
    step = host.executor.step

    def stepped(requests: Any) -> Any:
        seen.update(seat.values(host.optimizer.gradient))
        return step(requests)

    host.executor.step = stepped  # type: ignore[method-assign]
    loss = host.round("a").loss
    host.shut()
    return loss, seen, logprobs


@pytest.mark.parametrize("family", [family for family in CONFIGS if family not in ("lfm2", "bloom")])
def test_a_group_is_its_completions_alone(family: str) -> None:
    ours = base(family, torch.float64)
    wanted_loss, wanted, wanted_logprobs = trained(ours, [replace(row, branches=()) for row in ROWS])
    groups = grouped(ROWS, range(len(ROWS)), ours, 0)
    assert len(groups) == 2, "rows are joined on this base"
    loss, found, logprobs = trained(ours, ROWS)
    assert loss == pytest.approx(wanted_loss, rel=1e-10)
    assert logprobs == pytest.approx(wanted_logprobs, rel=1e-10)
    for name, gradient in wanted.items():
        assert gradient.any(), name
        torch.testing.assert_close(found[name], gradient, **LIMITS)
    crossing = replace(joined_branches([ROWS[0], ROWS[2]]), branches=())
    host = Host(ours)
    mixed = torch.cat(host.logprobs([crossing]))
    apart = torch.cat(host.logprobs([replace(ROWS[0], branches=()), replace(ROWS[2], branches=())]))
    assert (mixed - apart).abs().max() > 1e-2, "the same tokens as one document must differ"
    host.shut()
