"""Metadata of a learner's fields that a sweep needs beside their types and defaults.

So a new learner with a field of its own is known to no table elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from typing import Any, Literal

Limit = Literal["hidden_size", "learning_rate", "prompt_learning_rate"]


def option(
    default: Any,
    *,
    limit: Limit | None = None,
    reserve: bool | tuple[Any, ...] = False,
    shapes_weights: bool = False,
    early_phase: bool = False,
) -> Any:
    """Make a field of a learner's configuration with metadata for the sweep; plain fields need none.

    limit: the limit of a base that bounds the field from above (`search_spaces.models`).
    reserve: a host reserves room for the largest value that the field may take. The field must change what `adapter()`
        or `rows_per_batch()` returns, as the room is computed from these, or what `check_task` refuses. Where values
        have no order of their own, all of them from the smallest to the largest.
    shapes_weights: trained weights fit only the value that they were trained with, so a clone must keep it.
    early_phase: the field is the number of rounds of a phase before the last one. Scores of different phases cannot be
        compared, so ASHA first decides when every trial has a score of its last phase.
    """
    metadata = {"limit": limit, "reserve": reserve, "shapes_weights": shapes_weights, "early_phase": early_phase}
    return field(default=default, metadata=metadata)


def limits(config: Any) -> Mapping[str, str]:
    """The fields of a configuration that a base bounds -> the limit of the base that bounds each."""
    return {name: metadata["limit"] for name, metadata in _known(config) if metadata["limit"]}


def rates(config: Any) -> list[str]:
    """The fields of a configuration with the step sizes of weights, which suit a base by its width."""
    return [name for name, limit in limits(config).items() if limit == "learning_rate"]


def reserved(config: Any) -> Mapping[str, bool | tuple[Any, ...]]:
    """The fields of a configuration for whose largest value a host reserves room -> their values in order, or True."""
    return {name: metadata["reserve"] for name, metadata in _known(config) if metadata["reserve"]}


def weight_shapes(config: Any) -> set[str]:
    """The fields of a configuration that trained weights depend on."""
    return {name for name, metadata in _known(config) if metadata["shapes_weights"]}


def early_phases(config: Any) -> list[str]:
    """The fields of a configuration with the rounds of the phases before its last."""
    return [name for name, metadata in _known(config) if metadata["early_phase"]]


def _known(config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The fields that were made by `option`, with their metadata."""
    return ((one.name, one.metadata) for one in fields(config) if "shapes_weights" in one.metadata)
