"""Chain: sweeps that run one after the other, each on the base into which the previous winner was merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput


@dataclass(frozen=True)
class Chain:
    """Sweeps by phase, in the order in which they run."""

    name: str  # of the folder that holds the phases' folders
    phases: Mapping[str, Sweep]
    from_base: tuple[str, ...] = ()  # learners that start from the chain's own base; the first phase leaves them out
    optional: Mapping[str, Sweep] = field(default_factory=dict)  # sweeps that run only if --phase names them, alone

    @property
    def first(self) -> Sweep:
        """The first phase. Its task and its flags apply to every phase."""
        return next(iter(self.phases.values()))

    def select(self, names: Sequence[str]) -> dict[str, Sweep]:
        """Return the named phases in the chain's order; without names all that are not optional. Raises BadInput."""
        every = {**self.phases, **self.optional}
        if unknown := [name for name in names if name not in every]:
            raise BadInput(f"--phase {unknown[0]}:", f"this script's phases are {', '.join(every)}")
        alone = [name for name in names if name in self.optional]
        if alone and len(names) > 1:
            raise BadInput(f"--phase {' '.join(names)}:", f"{alone[0]} starts from the base", "run it by itself")
        return {name: sweep for name, sweep in every.items() if name in (names or self.phases)}
