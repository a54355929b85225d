"""Trials on several GPUs: how many processes train one trial, and which learners can be trained by several."""

from __future__ import annotations

from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput
from trainables.packed.specs import WorkerGroupShape


def worker_group_shape(sweep: Sweep) -> WorkerGroupShape | None:
    """Return how many processes train a trial, and the share of its resources for each; None for one process.

    Raises BadInput if a learner cannot be trained by several processes, or if seats were given.
    """
    cpus, gpus = (sweep.resources_per_trial.get(name, 0) for name in ("cpu", "gpu"))
    processes = sweep.num_workers or max(1, int(gpus))
    if processes == 1:
        if gpus > 1:
            raise BadInput(
                f"--num-workers 1 with --resources.gpu {gpus:g}:", "a process trains on one device", "drop one"
            )
        return None
    if gpus not in (0, processes):
        raise BadInput(
            f"--num-workers {processes} with --resources.gpu {gpus:g}:",
            "a process has a device of its own",
            f"use --resources.gpu {processes}, or 0",
        )
    if sweep.seats not in (1, "auto") or sweep.hosts not in (1, "auto"):
        raise BadInput(
            f"a trial of {processes} processes shares no base with others", remedy="drop --seats and --hosts"
        )
    for pair in sweep.pairs:
        name, config = pair.learner.name, pair.learner
        if not config.needs_base or config.per_example:
            raise BadInput(
                f"learner {name!r}", "trains in one process", "drop it by --learner, or use --resources.gpu 1"
            )
        adapter = config.adapter()
        if adapter is not None and adapter.num_virtual_tokens:
            raise BadInput(
                f"learner {name!r}:",
                "a soft prompt is trained in one process",
                "choose another --learner, or use --resources.gpu 1",
            )
        if "nf4" in pair.base.split(":") and sweep.parallel_strategy == "fsdp":
            raise BadInput(f"base {pair.base!r}:", "4-bit weights cannot be sharded", "use --parallel-strategy ddp")
    return WorkerGroupShape(processes, cpus / processes, gpus / processes, sweep.parallel_strategy)


def check_states(before: Sweep, now: Sweep) -> None:
    """Raise BadInput if resumed trials could not load their states.

    The adapters in a host have other names than PEFT's, which several processes train.
    """
    if (worker_group_shape(before) is None) != (worker_group_shape(now) is None) and any(
        pair.learner.packs for pair in now.pairs
    ):
        was = "one process" if worker_group_shape(before) is None else "several processes"
        raise BadInput(
            "--resume:", f"its trials were trained by {was}, and their states fit no other", "keep its --resources"
        )
