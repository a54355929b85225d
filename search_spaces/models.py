"""What the width of a base says about rates: where a default lies, and the upper ends of a space.

The wider the base, the more an update of the same size per weight changes its outputs, so the best rate falls with
width (Yang et al. 2021, arXiv 2203.03466).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.axis import SpaceError, describe
from search_spaces.space import Space


class Limits(NamedTuple):
    """The largest values that suit a base; `hidden_size` is its width, which bounds the rank of an update."""

    hidden_size: int
    learning_rate: float
    prompt_learning_rate: float


DEFAULT_WIDTH = 576  # that of SmolLM2-135M; the learners' default rates suit it, and narrower bases as well

# The upper end roughly halves with every doubling of the width. This is a prior, not a measurement, so it changes
# nothing but the upper end, and never to below 3e-3. A base that is not in the table changes nothing.
# The first row whose text is in the base's name applies.
BASES: dict[str, Limits] = {
    "gpt2-medium": Limits(1024, 1e-2, 2e-1),
    "smollm2-135m": Limits(576, 2e-2, 3e-1),
    "builtin:smollm2": Limits(576, 2e-2, 3e-1),
    "smollm2-360m": Limits(960, 1e-2, 2e-1),
    "qwen2-0.5b": Limits(896, 1e-2, 2e-1),
    "qwen2.5-0.5b": Limits(896, 1e-2, 2e-1),
    "lfm2-350m": Limits(1024, 1e-2, 2e-1),
    "qwen2.5-1.5b": Limits(1536, 7e-3, 1.5e-1),
    "lfm2-1.2b": Limits(2048, 5e-3, 1e-1),
    "tinyllama-1.1b": Limits(2048, 5e-3, 1e-1),
    "llama-3.2-1b": Limits(2048, 5e-3, 1e-1),
    "smollm2-1.7b": Limits(2048, 5e-3, 1e-1),
    "qwen2.5-3b": Limits(2048, 5e-3, 1e-1),
    "phi-2": Limits(2560, 4e-3, 8e-2),
    "phi-3-mini": Limits(3072, 3e-3, 7e-2),
    "llama-3.2-3b": Limits(3072, 3e-3, 7e-2),
    "qwen2.5-7b": Limits(3584, 3e-3, 6e-2),
    "llama-3.1-8b": Limits(4096, 3e-3, 5e-2),
}


def rate_at_width(default: float, hidden_size: int) -> float:
    """Return a learner's default rate for a base of this width: inversely proportional beyond `DEFAULT_WIDTH`.

    On a published grid it costs a mean of 0.25 % of the loss (`benchmarks/rates.py`).
    """
    return default * min(1.0, DEFAULT_WIDTH / hidden_size)


def fit(space: Space, bounded: Mapping[str, str], base: str) -> Space:
    """Return a learner's space with upper ends no higher than the base's limits; fixed axes stay, whatever their value.

    `bounded`: axis -> the field of `Limits` that bounds it; other axes stay as they are. Raises `SpaceError` if no
    value of an axis would be left.
    """
    limits = next((limits for text, limits in BASES.items() if text in base.lower()), None)
    if limits is None:
        return space
    narrowed = {}
    for name, limit in bounded.items():
        if name in space.axes and not space.axes[name].single():
            narrowed[name] = _at_most(name, space.axes[name], getattr(limits, limit), base)
    return space.replace(**narrowed)


def _at_most(name: str, distribution: BaseDistribution, bound: float, base: str) -> BaseDistribution:
    if isinstance(distribution, CategoricalDistribution):
        if choices := [
            choice for choice in distribution.choices if isinstance(choice, int | float) and choice <= bound
        ]:
            return CategoricalDistribution(choices)
    elif isinstance(distribution, FloatDistribution):
        if distribution.low <= bound:
            high = min(distribution.high, bound)
            return FloatDistribution(distribution.low, high, log=distribution.log, step=distribution.step)
    elif isinstance(distribution, IntDistribution) and distribution.low <= bound:
        high = min(distribution.high, int(bound))
        return IntDistribution(distribution.low, high, log=distribution.log, step=distribution.step)
    raise SpaceError(
        f"axis {name!r} in {describe(distribution)} has nothing at or below {bound:g}, the most that suits {base}; "
        f"lower it with .replace({name}=...), or fix it with --set {name}=VALUE"
    )
