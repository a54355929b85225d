"""The arena workload on one device without Ray: plain trials one after the other, and seats on one base.

The shape is Qwen2.5-0.5B's with random weights, or `builtin:tiny`. `on_gpu.py` runs these functions. Beside seconds:
operations that one training step of all its trials launches, and FLOP of a trial's products and attention.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, get_args

import torch

from benchmarks.costs import cost
from benchmarks.packing import BASE, WORKLOADS, configurations, pair_of
from trainables.core import Pair
from trainables.models.loading import Base, load
from trainables.models.peft_adapters import lora_config
from trainables.packed.host import Host, Work
from trainables.packed.specs import Shape
from trainables.training.standalone import StandaloneLearner, with_peft

QWEN = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
}
ARENA = WORKLOADS["arena"]
NEW_TOKENS = 64  # per prompt in `decode`


@dataclass(frozen=True)
class Arithmetic:
    """Operations per training step of all trials, and FLOP per trial."""

    operations: float
    flops: float


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds, and the peak of allocated GPU memory in MiB, the base included (0 on a CPU)."""

    seconds: float
    device_mib: float


def arithmetic(base: Base, count: int) -> Arithmetic:
    """Count the second round of `count` seats, or of a plain trial (0), and multiply it by the number of rounds.

    Rounds differ a little, as answers become shorter.
    """
    if not count:
        with closing(plain(base, pair_of(ARENA, configurations(1)[0]), 0)) as trial:
            return _arithmetic(trial.round, trial.evaluate, 1)
    with seated(base, count) as host:
        return _arithmetic(*(partial(together, host, count, what) for what in get_args(Work)), count)


def _arithmetic(train: Callable[[], object], evaluate: Callable[[], object], trials: int) -> Arithmetic:
    train()
    evaluate()
    training, evaluation = cost(train), cost(evaluate)
    flops = ARENA.rounds * (training.flops + evaluation.flops)
    return Arithmetic(training.operations / (ARENA.steps // ARENA.rounds), flops / trials)


def profile(base: Base, count: int) -> dict[str, str]:
    """Return tables of the operators that take most of the time of the second round and evaluation of `count` seats."""
    longest = "self_device_time_total" if base.device.type == "cuda" else "self_cpu_time_total"
    tables = {}
    with seated(base, count) as host:
        for what in get_args(Work):
            together(host, count, what)
        for what in get_args(Work):
            with torch.profiler.profile() as seen:
                together(host, count, what)
            tables[what] = seen.key_averages().table(sort_by=longest, row_limit=12, max_name_column_width=48)
    return tables


@contextmanager
def compiled(base: Base) -> Iterator[None]:
    """Compile the base's forward pass with its adapters, on a GPU as CUDA graphs, anew for each set of hooks."""
    import torch._dynamo.config as dynamo

    dynamo.skip_nnmodule_hook_guards = False  # else adapters that come later would be left out, silently
    dynamo.recompile_limit, dynamo.accumulated_recompile_limit = 256, 4096  # sizes of rows, masks and caches
    base.model.forward = torch.compile(base.model.forward, mode="reduce-overhead")
    try:
        yield
    finally:
        del base.model.forward  # the class's own is seen again
        torch._dynamo.reset()


def timed(do: Callable[[], object]) -> Timing:
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    do()
    if on_gpu:
        torch.cuda.synchronize()
    return Timing(time.perf_counter() - start, torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0)


def opened(shape: str) -> Base:
    """The base of that shape; random weights for Qwen's, with the built-in tokenizer, whose tokens it also has."""
    tiny = load(BASE)
    if shape == BASE:
        return tiny
    from transformers import AutoModelForCausalLM, Qwen2Config

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(Qwen2Config(**QWEN, tie_word_embeddings=True), dtype=dtype)
    return Base(shape, model.requires_grad_(False).eval(), tiny.tokenizer)


def plain(base: Base, pair: Pair, seed: int) -> StandaloneLearner:
    """A trial as people write it, through PEFT's own modules; its rows and its judge are those of a packed one."""
    learner: Any = pair.learner.build(base, pair.task, seed)
    return with_peft(base, lora_config(base, learner.adapter), learner, seed)


def sequential(base: Base, count: int) -> int:
    """Train plain trials one after the other. Return how often one halved its batch as memory ran out."""
    halvings = 0
    for config in configurations(count):
        with closing(plain(base, pair_of(ARENA, config), 0)) as trial:
            for _ in range(ARENA.rounds):
                trial.round()
                trial.evaluate()
            halvings += trial.halvings
    return halvings


@contextmanager
def seated(base: Base, count: int) -> Iterator[Host]:
    """Give a host with `count` open trials, named "0", "1" ..., and remove it from the base afterwards."""
    host = Host(base, Shape(count, lanes=count, max_rank=16, max_prompt=0))
    try:
        for index, config in enumerate(configurations(count)):
            pair = pair_of(ARENA, config)
            host.open(str(index), pair.learner.build(base, pair.task, 0), 0)
        yield host
    finally:
        host.shut()


def together(host: Host, count: int, what: Work) -> dict[str, Any]:
    return host.run({str(index): what for index in range(count)})


def packed(base: Base, count: int) -> int:
    """Train `count` trials in one host. Return how often it halved its batches as memory ran out."""
    with seated(base, count) as host:
        for _ in range(ARENA.rounds):
            together(host, count, "round")
            together(host, count, "evaluate")
        return host.executor.halvings


def decode(base: Base, count: int) -> tuple[int, Timing]:
    """Let each of `count` seats answer the questions of an evaluation in up to `NEW_TOKENS` tokens, a second time.

    Return the number of tokens that all seats generated.
    """
    with seated(base, count) as host:
        requests = []
        for trial in host.trials.values():
            query: Any = next(trial.learner.evaluate("search"))
            requests.append(trial.to_request(replace(query, max_new_tokens=NEW_TOKENS)))
        decoding: Any = partial(host.executor.decode, requests)
        tokens = sum(len(one.tokens) + one.ended for completions in decoding() for one in completions)
        return tokens, timed(decoding)
