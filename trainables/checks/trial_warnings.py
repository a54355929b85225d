"""Warnings about a trial, from its own metrics, that its score may be meaningless.

A loss that is not finite ends a trial at once, see `trial.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TRUNCATED = 0.1  # share of completions that were cut off, above which the score measures the token budget
NAMED = 3  # modules that a warning names


def modules_without_gradient(gradients: Mapping[str, bool]) -> list[str]:
    """Return the modules without any gradient, of parameter -> whether a gradient reached it; `prompt` is a module."""
    modules: dict[str, bool] = {}
    for name, reached in gradients.items():
        module = name.rpartition(".")[0] or name
        modules[module] = modules.get(module, False) or reached
    return [module for module, reached in modules.items() if not reached]


def first_round_warnings(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Warn about modules that do not learn."""
    if silent := list(metrics.get("without_gradient", [])):
        named = ", ".join(silent[:NAMED]) + (" ..." if len(silent) > NAMED else "")
        yield f"no gradient in {len(silent)} module{'s' * (len(silent) > 1)} ({named})"


def best_round_warnings(metrics: Mapping[str, Any], baselines: Mapping[str, float]) -> Iterator[str]:
    """Warn about the best round. `baselines`: `chance`, `copy`, `constant`, `majority`, `untouched`, in [0, 1]."""
    if metrics.get("memory_writes") == 0:
        yield "nothing was written into the memory"
    if (share := metrics.get("truncated", 0.0)) > TRUNCATED:
        yield f"{100 * share:.0f} % of completions were cut off"
    trivial = {name: value for name, value in baselines.items() if "." not in name}
    name = max(trivial, key=lambda key: trivial[key], default=None)
    if name is not None and metrics["score"] <= trivial[name]:
        yield f"no better than {name} ({100 * trivial[name]:.1f} %)"
