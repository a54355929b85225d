"""Decoding for many seats: a seat's rows stand together, and what a row says is its own, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GPT2Config

from tests.support.miniatures import CONFIGS, base, linear_modules
from tests.support.scripted_learner import completing, scripted
from tests.support.toys import untimed
from trainables.core import Adapter
from trainables.models.loading import Base
from trainables.packed.determinism import MIN_LANES, blocks_are_independent, rows_are_independent
from trainables.packed.host import Host
from trainables.packed.specs import Shape

BASE = base("qwen2", seed=1)
BASE.model.lm_head.weight.data[BASE.eos] *= 5  # rows end early, and at different times
PROMPTS = [[a, b] + [a] * (a % 3 * 5) for a in range(4, 60, 5) for b in range(4, 60, 7)]  # of three padded widths
LLAMA = ("q_proj", "v_proj", "down_proj")
SEEDS = {"llama": 0, "lfm2": 0, "gpt2": 5, "phi3": 2, "phi": 2}  # with which rows end at different times, too
SEATS = {"all": PROMPTS, "some": PROMPTS[5:26], "block": PROMPTS[40:48], "few": PROMPTS[20:23]}


@pytest.fixture(autouse=True)
def one_thread():
    """With several threads some processors compute a row in another order in another batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, one_thread: None) -> int:
    torch.set_num_threads(request.param)
    return request.param


def seated(*names: str, rank: int = 4, on: Base = BASE, modules: tuple[str, ...] = LLAMA, lanes: int = 128) -> Host:
    """These seats, each with an adapter that changes what it says."""
    host = Host(on, Shape(len(SEATS), decode_lanes=lanes, max_rank=rank, max_prompt=0))
    for name in names:
        adapter = Adapter(r=rank, lora_alpha=8.0, target_modules=modules)
        host.open(name, scripted(adapter, evaluation=lambda own=name: completing(SEATS[own])))
        generator = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
        for part in host.trials[name].made.values:
            own = host.trials[name].tensor(part, None)
            own.copy_(torch.randn(own.shape, generator=generator) * 0.1)
    return host


def watched(host: Host, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Slots and rows of every step of decoding from now on."""
    steps, run = [], host.stack.run

    def counted(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        if "past_key_values" in inputs:
            steps.append((len(lanes), len(inputs["input_ids"])))
        return run(lanes, *args, **inputs)

    monkeypatch.setattr(host.stack, "run", counted)
    return steps


@pytest.mark.parametrize("rank", [1, 4])
def test_what_a_row_says_is_its_own_whoever_decodes_beside_it(
    rank: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = seated(*SEATS, rank=rank)
    steps = watched(together, monkeypatch)
    said = together.run(dict.fromkeys(SEATS, "evaluate"))
    in_any_batch = threads == 1 or rows_are_independent(together.stack)
    # Some processors multiply by rank 1 in another order.
    if in_any_batch and (rank > 1 or blocks_are_independent(together.stack)):
        assert len({rows for blocks, rows in steps if blocks < rows}) > 1, "batches must have shrunk in company"
    for name in SEATS:
        assert untimed(seated(name, rank=rank).evaluate(name)) == untimed(said[name]), name
    assert len({tuple(map(tuple, one.metrics["tokens"][:3])) for one in said.values()}) > 1, "adapters must matter"


@pytest.mark.parametrize("family", SEEDS)
def test_so_it_is_on_other_families(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lfm2, whose convolutions keep no cache that could be joined or cut, decodes a width at a time."""
    ours = base(family, seed=SEEDS[family])
    head = ours.model.lm_head
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)  # apart from the embedding
    head.weight.data[ours.eos] *= 6
    given: Any = {"on": ours, "modules": linear_modules(ours)}
    together = seated(*SEATS, **given)
    steps = watched(together, monkeypatch)
    said = together.run(dict.fromkeys(SEATS, "evaluate"))
    if family != "lfm2":
        assert len({rows for blocks, rows in steps if blocks < rows}) > 1, "batches must have shrunk in company"
    for name in SEATS:
        assert untimed(seated(name, **given).evaluate(name)) == untimed(said[name]), name
    assert len({tuple(map(tuple, one.metrics["tokens"][:3])) for one in said.values()}) > 1, "adapters must matter"


def test_a_and_b_are_copied_once_for_a_block_of_a_seats_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    host = seated("some", "block")
    steps = watched(host, monkeypatch)
    in_blocks = host.run({"some": "evaluate", "block": "evaluate"})
    assert steps
    assert all(rows == blocks * MIN_LANES for blocks, rows in steps)
    for name in ("some", "block"):  # a row by itself has an A and B of its own
        for row, prompt in enumerate(SEATS[name]):
            monkeypatch.setitem(SEATS, name, [prompt])
            alone = host.evaluate(name)
            assert alone.metrics["tokens"][0] == in_blocks[name].metrics["tokens"][row]
            assert alone.metrics["logprobs"][0] == pytest.approx(in_blocks[name].metrics["logprobs"][row], abs=1e-4)
            monkeypatch.undo()


def test_every_kind_of_product_is_tried_before_batches_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2's are no `Linear`; with an odd inner width their bits depend on the batch."""
    monkeypatch.setitem(CONFIGS, "gpt2", GPT2Config(**CONFIGS["gpt2"].to_diff_dict() | {"n_inner": 33}))
    odd = base("gpt2", seed=1)
    odd.model.lm_head.weight = torch.nn.Parameter(odd.model.lm_head.weight.detach().clone(), requires_grad=False)
    odd.model.lm_head.weight.data[odd.eos] *= 3
    given: Any = {"on": odd, "modules": ("c_fc", "c_proj")}
    said = seated(*SEATS, **given).run(dict.fromkeys(SEATS, "evaluate"))
    for name in SEATS:
        assert untimed(seated(name, **given).evaluate(name)) == untimed(said[name]), name


def test_decoding_that_runs_out_of_memory_halves_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for 20 rows: no bit changes, and training goes on with all of its lanes."""
    wanted = untimed(seated("all").evaluate("all"))
    host = seated("all", lanes=1024)
    before, run = host.executor.lanes, host.stack.run

    def limited(lanes: torch.Tensor, *args: Any, **inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(lanes, *args, **inputs)

    monkeypatch.setattr(host.stack, "run", limited)
    assert untimed(host.evaluate("all")) == wanted
    assert (host.executor.lanes, host.executor.halvings) == (before, 0)
    few = untimed(seated("all", lanes=5).evaluate("all"))
    assert few == wanted, "a block stays whole where fewer lanes are asked for"
