"""Choose the number format of bases on CPUs: bfloat16 if every machine of the sweep is much faster in it, else float32.

A choice becomes part of the base's name (`NAME:bfloat16`), so that hosts, trials and later commands load the same
numbers on any machine. `sweep.yaml` records it beside the base as it was given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sweeps.spec.sweep import Sweep
from trainables.models.gguf import without_hash

# Smaller bases stay in float32: they spend their time between matrix products, and the nearly equal scores of their
# tokens are ties in bfloat16's 8 bits.
MEASURED_PARAMETERS = 50_000_000


def choose_dtypes(sweep: Sweep, nodes: int, speedups: Callable[[], Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Return the chosen dtypes, by the base as it was given: `dtype`, and `speedup`, that of the slowest machine.

    `nodes` is how many machines the cluster can have; `speedups` measures those that are up. If some are not up yet,
    the dtype is float32 and the speedup None. Bases that need no choice are left out, and if none does, nothing is
    measured.
    """
    bases = undecided_bases(sweep)
    if not bases:
        return {}
    from trainables.models.cpu_dtype import FASTER  # imports torch

    measured = speedups()
    slowest = round(min(measured), 2) if len(measured) >= nodes else None
    dtype = "bfloat16" if slowest is not None and slowest >= FASTER else "float32"
    return {base: {"dtype": dtype, "speedup": slowest} for base in bases}


def undecided_bases(sweep: Sweep) -> list[str]:
    """Return the bases whose dtype nobody has named and whose size makes it matter, if trials run on CPUs.

    Not those in 4 bits, whose time goes into unpacking, nor those of which every learner trains a float32 copy.
    """
    if sweep.resources_per_trial.get("gpu"):
        return []
    from trainables.models.loading import DTYPES, BaseName, base_sizes  # imports torch

    based = [pair for pair in sweep.pairs if pair.learner.needs_base and not pair.learner.trains_base]
    return [
        base
        for base in dict.fromkeys(pair.base for pair in based)
        if not BaseName.parse(base).options & {*DTYPES, "nf4"} and base_sizes(base)[2] >= MEASURED_PARAMETERS
    ]


def with_dtypes(sweep: Sweep, dtypes: Mapping[str, Mapping[str, Any]]) -> Sweep:
    """Return the sweep with the chosen dtypes, from `choose_dtypes` or `sweep.yaml`, in the names of its bases."""
    names = {base: f"{base}:{choice['dtype']}" for base, choice in dtypes.items()}
    pairs = tuple(dataclasses.replace(pair, base=names.get(pair.base, pair.base)) for pair in sweep.pairs)
    return dataclasses.replace(sweep, pairs=pairs)


def in_words(dtypes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each chosen dtype: what was chosen, why, and how to choose otherwise."""
    lines = []
    for whole, choice in dtypes.items():
        base = without_hash(whole)
        speedup, other = choice["speedup"], "float32" if choice["dtype"] == "bfloat16" else "bfloat16"
        why = f"bfloat16 is {speedup:g} times as fast as float32" if speedup else "not all machines are up"
        lines.append(f"{base} in {choice['dtype']}: {why} (--base {base}:{other} for the other)")
    return lines
