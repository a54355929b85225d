"""Whether the bases of a sweep fit into memory: those of a sweep of several are refused before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput

GIB = 2**30


def base_bytes(base: str, gpu: bool) -> float:
    """Return the bytes of a loaded base; a weight in 4 bits takes 0.6 bytes with its scale, and stacked experts stay as
    they are."""
    from trainables.models.loading import BaseName, base_sizes, frozen_experts  # imports torch

    options = BaseName.parse(base).options
    half = options & {"bfloat16", "float16"} or (gpu and "float32" not in options)
    plain = 2.0 if half else 4.0
    share = frozen_experts(base) if "nf4" in options else 1.0
    return base_sizes(base)[2] * (share * plain + (1 - share) * 0.6)


def check_bases_fit(sweep: Sweep, free_bytes: float, at_once: int, nodes: Sequence[float] = ()) -> None:
    """Raise BadInput, with all sizes and the base to drop, if the bases of a sweep of several do not fit.

    `free_bytes`: of main memory, or of the GPU, or the share of it, that each host has. `at_once`: how many trials run
    at the same time, each with a base of its own; 0: they share bases, whose hosts run side by side. `nodes`: the free
    memory of each machine of a cluster, in place of `free_bytes`, if trials run on CPUs.
    """
    if not sweep.several_bases:
        return
    gpu = bool(sweep.resources_per_trial.get("gpu"))
    sizes = {pair.label: base_bytes(base, gpu) for base, pair in sweep.bases().items()}
    places = list(nodes) if nodes and not gpu else [free_bytes]
    largest = max(sizes, key=lambda label: sizes[label])
    if sizes[largest] > max(places):
        where = "the GPU of a host" if gpu else "the largest machine" if nodes else "memory"
        free = f"{_gib(max(places))} are free in {where}"
        raise BadInput(f"base {largest}", f"does not fit: {_told(sizes)}, and {free}", _drop(sweep, largest))
    if gpu:
        return
    if at_once and not nodes and at_once * sizes[largest] > free_bytes:
        most = int(free_bytes // sizes[largest])
        raise BadInput(
            f"{at_once} trials at once, each with a base of its own,",
            f"may need {_gib(at_once * sizes[largest])} ({_told(sizes)}), and {_gib(free_bytes)} are free",
            f"{_drop(sweep, largest)}, or use --max-concurrent-trials {most}",
        )
    if not at_once and not _fit(sizes, places):
        rests = {label: {name: size for name, size in sizes.items() if name != label} for label in sizes}
        enough = [label for label in sorted(sizes, key=lambda one: sizes[one]) if _fit(rests[label], places)]
        raise BadInput(
            "the bases",
            f"need {_gib(sum(sizes.values()))} side by side ({_told(sizes)}), and {_gib(sum(places))} are free",
            f"{_drop(sweep, (enough or [largest])[0])}, or use --seats 1 --max-concurrent-trials 1",
        )


def _fit(sizes: Mapping[str, float], places: Sequence[float]) -> bool:
    """Return whether one of each fits, the largest placed first where there is the most room."""
    left = list(places)
    for size in sorted(sizes.values(), reverse=True):
        most = max(range(len(left)), key=lambda place: left[place])
        if size > left[most]:
            return False
        left[most] -= size
    return True


def _told(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {_gib(size)}" for label, size in sizes.items())


def _gib(count: float) -> str:
    return f"{count / GIB:.3g} GiB"


def _drop(sweep: Sweep, label: str) -> str:
    base = next(base for base, pair in sweep.bases().items() if pair.label == label)
    return f"drop {base} from --base"
