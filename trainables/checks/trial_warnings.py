"""Guards during a sweep: what a trial's own metrics say about whether its score means anything. They mark the trial.

A loss that is not finite ends a trial at once, see `trial.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TRUNCATED = 0.1  # of completions that never end: the score then measures the budget
NAMED = 3  # modules that are named


def modules_without_gradient(gradients: Mapping[str, bool]) -> list[str]:
    """Parameter -> whether a gradient ever reached it; the modules in which none was reached. A prompt is itself."""
    modules: dict[str, bool] = {}
    for name, reached in gradients.items():
        module = name.rpartition(".")[0] or name
        modules[module] = modules.get(module, False) or reached
    return [module for module, reached in modules.items() if not reached]


def first_round_warnings(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What the first round gives away: parts that do not learn."""
    if silent := list(metrics.get("without_gradient", [])):
        named = ", ".join(silent[:NAMED]) + (" ..." if len(silent) > NAMED else "")
        yield f"no gradient in {len(silent)} module{'s' * (len(silent) > 1)} ({named})"


def best_round_warnings(metrics: Mapping[str, Any], baselines: Mapping[str, float]) -> Iterator[str]:
    """What the best round gives away. `baselines`: `chance`, `copy`, `constant`, `majority`, `untouched`, in [0, 1]."""
    if metrics.get("memory_writes") == 0:
        yield "nothing was written into the memory"
    if (share := metrics.get("truncated", 0.0)) > TRUNCATED:
        yield f"{100 * share:.0f} % of completions were cut off"
    trivial = {name: value for name, value in baselines.items() if "." not in name}
    name = max(trivial, key=lambda key: trivial[key], default=None)
    if name is not None and metrics["score"] <= trivial[name]:
        yield f"no better than {name} ({100 * trivial[name]:.1f} %)"
