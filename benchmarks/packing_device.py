"""The arena workload on one device without Ray: sequential trials, processes side by side, and seats on one base.

What `packing.py --no-ray` runs. The shape is Qwen2.5-0.5B's with random weights, or `builtin:tiny`. Beside seconds:
operations that one training step of all its trials launches, and the seconds a trial would take if the device did
nothing but its products, as fast as one large product. `compiled`: torch.compile on the base, for sequential and packed
trials alike; what it costs to compile is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
import torch.multiprocessing as multiprocessing

from benchmarks.costs import cost, peak_flops
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
SEQUENTIAL = 4  # trials that are run one after the other, enough for a mean


@dataclass(frozen=True)
class Arithmetic:
    """Of one way to run: operations a training step, and its products, in FLOP a trial."""

    operations: float
    flops: float


def compare(
    shape: str, seats: Sequence[int], processes: Sequence[int], compiled: str | None = None, profiled: bool = False
) -> None:
    base = opened(shape)
    peak = peak_flops(base.device, base.dtype)
    name = torch.cuda.get_device_name() if base.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{shape} on {name}, {peak / 1e12:.3g} TFLOP/s in {base.dtype}, torch {torch.__version__}")
    print("| way | s a trial | against sequential | operations a step | products alone, s a trial | peak device MiB |")
    print("|---|---:|---:|---:|---:|---:|")
    needs = arithmetic(base, 0)  # warms, too
    alone = timed(lambda: sequential(base, SEQUENTIAL)) / SEQUENTIAL
    report("sequential", alone, alone, needs, peak)
    for count in processes:
        report(f"{count} processes", side_by_side(shape, count), alone)
    for count in seats:
        needs = arithmetic(base, count)  # warms, too
        report(f"{count} seats", timed(lambda n=count: packed(base, n)) / count, alone, needs, peak)
    if profiled:
        for count in seats:
            profile(base, count)
    if compiled:
        compile_base(base, compiled)
        report("sequential, compiled", timed_again(lambda: sequential(base, SEQUENTIAL)) / SEQUENTIAL, alone)
        for count in seats:
            seconds = timed_again(lambda n=count: packed(base, n)) / count
            report(f"{count} seats, compiled", seconds, alone)


def report(name: str, seconds: float, alone: float, needs: Arithmetic | None = None, peak: float = 1.0) -> None:
    most = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    launched = f"{needs.operations:.0f} | {needs.flops / peak:.3g}" if needs else " | "
    memory = "" if "processes" in name else f"{most:.0f}"  # theirs is not known here
    print(f"| {name} | {seconds:.3f} | {alone / seconds:.2f} x | {launched} | {memory} |", flush=True)


def arithmetic(base: Base, count: int) -> Arithmetic:
    """Of `count` seats, or of a plain trial (0): its second round, times as many as there are. They differ a little, as
    answers become shorter."""
    trials = max(1, count)
    if count:
        host = seated(base, count)
        train, evaluate = (partial(together, host, count, what) for what in get_args(Work))
        close = host.shut
    else:
        trial = plain(base, pair_of(ARENA, configurations(1)[0]), 0)
        train, evaluate, close = trial.round, trial.evaluate, trial.close
    train()
    evaluate()
    training, asking = cost(train), cost(evaluate)
    close()
    flops = ARENA.rounds * (training.flops + asking.flops)
    return Arithmetic(training.operations / (ARENA.steps // ARENA.rounds), flops / trials)


def profile(base: Base, count: int) -> None:
    """Prints the operators that take most of the time of a round and an evaluation of `count` seats, their second."""
    host, longest = (
        seated(base, count),
        "self_device_time_total" if base.device.type == "cuda" else "self_cpu_time_total",
    )
    for what in get_args(Work):
        together(host, count, what)
    for what in get_args(Work):
        with torch.profiler.profile() as seen:
            together(host, count, what)
        print(f"\n{count} seats, {what}")
        print(seen.key_averages().table(sort_by=longest, row_limit=12, max_name_column_width=48))
    host.shut()


def compile_base(base: Base, mode: str) -> None:
    """Compile the base's forward pass, PEFT's or the stack's adapters with it, anew for each set of hooks."""
    import torch._dynamo.config as dynamo

    dynamo.skip_nnmodule_hook_guards = False  # else adapters that come later would be left out, silently
    dynamo.recompile_limit, dynamo.accumulated_recompile_limit = 256, 4096  # sizes of rows, masks and caches
    base.model.forward = torch.compile(base.model.forward, mode=mode)


def timed(do: Callable[[], None]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    do()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def timed_again(do: Callable[[], None]) -> float:
    """The second time, when everything has been compiled."""
    do()
    return timed(do)


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


def sequential(base: Base, count: int) -> None:
    for config in configurations(count):
        trial = plain(base, pair_of(ARENA, config), 0)
        for _ in range(ARENA.rounds):
            trial.round()
            trial.evaluate()
        trial.close()


def seated(base: Base, count: int) -> Host:
    host = Host(base, Shape(count, lanes=count, max_rank=16, max_prompt=0))
    for index, config in enumerate(configurations(count)):
        pair = pair_of(ARENA, config)
        host.open(str(index), pair.learner.build(base, pair.task, 0), 0)
    return host


def together(host: Host, count: int, what: Work) -> dict[str, Any]:
    return host.run({str(index): what for index in range(count)})


def packed(base: Base, count: int) -> None:
    host = seated(base, count)
    for _ in range(ARENA.rounds):
        together(host, count, "round")
        together(host, count, "evaluate")
    host.shut()


def side_by_side(shape: str, count: int) -> float:
    """Seconds a trial of so many processes, each with a base of its own; loading it is not counted."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(count + 1)
    workers = [context.Process(target=_worker, args=(shape, together)) for _ in range(count)]
    for worker in workers:
        worker.start()
    together.wait()
    start = time.perf_counter()
    together.wait()
    seconds = time.perf_counter() - start
    for worker in workers:
        worker.join()
    return seconds / (SEQUENTIAL * count)


def _worker(shape: str, together: Any) -> None:
    """Waits for the others before and after its trials."""
    torch.set_num_threads(1)
    base = opened(shape)
    sequential(base, 1)
    together.wait()
    sequential(base, SEQUENTIAL)
    together.wait()
