"""Two learners' configurations with nothing behind them, and the smallest sweeps over one and over both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from optuna.distributions import FloatDistribution, IntDistribution

from search_spaces.space import Space
from sweeps.spec.sweep import Sweep
from tests.support.toys import Letters
from trainables.core import LearnerConfig, Pair


@dataclass(frozen=True)
class Knob(LearnerConfig):
    """A learner's configuration, with a field of every type that an axis may have."""

    name: ClassVar[str] = "knob"
    needs_base: ClassVar[bool] = False
    rate: float = 0.1
    size: int = 4
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    decay: float | None = None
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ValueError(f"rate is {self.rate}; it must lie between 0 and 1")

    def build(self, base: Any, task: Any, seed: int) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Dial(Knob):
    name: ClassVar[str] = "dial"
    depth: int = 1


RATE = Space({"rate": FloatDistribution(0.01, 0.5)})
ONE = Sweep(name="one", pairs=(Pair(Knob(), Letters()),), space=RATE)
TWO = replace(
    ONE,
    pairs=(Pair(Knob(), Letters()), Pair(Dial(rate=0.2), Letters())),
    space={"knob": RATE, "dial": RATE | Space({"depth": IntDistribution(1, 3)})},
)
