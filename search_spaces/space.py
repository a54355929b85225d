"""Space: an immutable mapping of axis names to Optuna distributions, with conditions.

A space says what may vary and not how it is searched, so one value serves TPE, random search, a `FixedTrial`, or a new
model. Every method returns a new space. Errors are `SpaceError`, one line each.
`axis.py` has the checks of one axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import BaseTrial

from search_spaces.axis import SpaceError, check_axis, describe, from_entry, inside, same, suggest, to_entry
from search_spaces.names import with_prefix, without_prefix

Conditions = Mapping[str, Mapping[str, tuple[Any, ...]]]  # axis -> {parent axis: the values it is active for}


@dataclass(frozen=True)
class Space:
    """`axes`: name -> distribution. `conditions`: an axis is active only if every parent is, with one of those values.

    A parent may be missing, as after `when` and before the join; `suggest` and `validate` need it.
    """

    axes: Mapping[str, BaseDistribution]
    conditions: Conditions = field(default_factory=dict)

    def __post_init__(self) -> None:
        conditions = {
            axis: MappingProxyType({parent: tuple(values) for parent, values in parents.items()})
            for axis, parents in self.conditions.items()
            if parents
        }
        object.__setattr__(self, "axes", MappingProxyType(dict(self.axes)))  # read-only views of our own copies
        object.__setattr__(self, "conditions", MappingProxyType(conditions))
        for name, distribution in self.axes.items():
            check_axis(name, distribution)
        for axis, parents in self.conditions.items():
            self._known(axis)
            for parent, values in parents.items():
                self._check_condition(axis, parent, values)
        self._order()

    def __reduce__(self) -> tuple[Any, ...]:
        return Space, (dict(self.axes), {axis: dict(parents) for axis, parents in self.conditions.items()})

    def __len__(self) -> int:
        return len(self.axes)

    def __str__(self) -> str:
        lines = []
        for name, distribution in self.axes.items():
            gates = [f"{parent} in {list(values)}" for parent, values in self.conditions.get(name, {}).items()]
            lines.append(f"{name}: {describe(distribution)}" + (f"  when {' and '.join(gates)}" if gates else ""))
        return "\n".join(lines)

    def __or__(self, other: Space) -> Space:
        """Return both spaces' axes. Raise `SpaceError` for an axis that both have."""
        if twice := [name for name in self.axes if name in other.axes]:
            raise SpaceError(f"axes {twice} are in both spaces; drop one with .without({twice[0]!r}) before joining")
        return Space({**self.axes, **other.axes}, {**self.conditions, **other.conditions})

    def replace(self, **distributions: BaseDistribution) -> Space:
        """Return the space with other distributions for existing axes; their conditions stay."""
        for name in distributions:
            self._known(name)
        return Space({**self.axes, **distributions}, self.conditions)

    def without(self, *names: str) -> Space:
        """Return the space without these axes; the learner's own defaults apply to them."""
        for name in names:
            self._known(name)
            gated = [axis for axis, parents in self.conditions.items() if name in parents and axis not in names]
            if gated:
                raise SpaceError(f"axis {name!r} decides whether {gated} are active; remove them too, or use .fix")
        kept = {name: distribution for name, distribution in self.axes.items() if name not in names}
        return Space(kept, {axis: parents for axis, parents in self.conditions.items() if axis in kept})

    def fix(self, **values: Any) -> Space:
        """Return the space with constants instead of ranges; every record of a trial still shows them."""
        return self.replace(**{name: CategoricalDistribution((value,)) for name, value in values.items()})

    def given(self, axis: str, **parents: Any) -> Space:
        """Make `axis` active only if each parent has that value, or one of those values (tuple or list)."""
        self._known(axis)
        allowed = {name: tuple(v) if isinstance(v, tuple | list) else (v,) for name, v in parents.items()}
        return Space(self.axes, {**self.conditions, axis: {**self.conditions.get(axis, {}), **allowed}})

    def when(self, **gate: str) -> Space:
        """Return the space for one pair of several: `.when(learner="lora")` renames every axis to `lora.<axis>` and
        makes it active only if the axis `learner` is "lora".

        So the pairs of a sweep keep their own ranges; join with `Space({"learner": ...})`.
        """
        if len(gate) != 1:
            raise SpaceError(f"when takes one axis, as in .when(learner='lora'), not {sorted(gate)}")
        ((parent, value),) = gate.items()
        renamed = {name: with_prefix(value, name) for name in self.axes}
        return Space(
            {renamed[name]: distribution for name, distribution in self.axes.items()},
            {
                new: {parent: (value,)} | {renamed.get(p, p): v for p, v in self.conditions.get(old, {}).items()}
                for old, new in renamed.items()
            },
        )

    def branch(self, **gate: str) -> Space:
        """Undo `when` in a joined space: `.branch(learner="lora")` has the axes `lora.<axis>`, without that prefix."""
        if len(gate) != 1:
            raise SpaceError(f"branch takes one axis, as in .branch(learner='lora'), not {sorted(gate)}")
        ((parent, value),) = gate.items()
        own = {name: short for name in self.axes if (short := without_prefix(value, name)) != name}
        return Space(
            {short: self.axes[name] for name, short in own.items()},
            {
                short: {own.get(p, p): v for p, v in self.conditions.get(name, {}).items() if p != parent}
                for name, short in own.items()
            },
        )

    def active(self, axis: str, values: Mapping[str, Any]) -> bool:
        """Whether an axis' conditions hold for these values of its parents."""
        self._known(axis)
        return not self._gates(axis, values)

    def opening(self, axis: str) -> dict[str, tuple[Any, ...]]:
        """Return the axes that decide, directly or indirectly, whether `axis` is active.

        Each has the values in its range for which `axis` can be active; no values if it never can.
        """
        self._known(axis)
        self._complete()
        found: dict[str, tuple[Any, ...]] = {}
        waiting = [axis]
        while waiting:
            for parent, values in self.conditions.get(waiting.pop(), {}).items():
                other = found.get(parent, values)  # several axes may depend on the same one
                both = (v for v in values if inside(self.axes[parent], v) and any(same(v, w) for w in other))
                found[parent] = tuple(both)
                waiting.append(parent)
        return found

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Ask an Optuna trial for the values of the active axes, parents first."""
        self._complete()
        values: dict[str, Any] = {}
        for name in self._order():
            if not self._gates(name, values):
                values[name] = suggest(trial, name, self.axes[name])
        return values

    def validate(self, values: Mapping[str, Any]) -> None:
        """Raise `SpaceError` unless `values` has exactly the active axes, each inside its range."""
        self._complete()
        for name in values:
            self._known(name)
        for name in self._order():
            closed = self._gates(name, values)
            if name in values and closed:
                raise SpaceError(
                    f"axis {name!r} = {values[name]!r} is active only when {' and '.join(closed)}; remove it"
                )
            if name not in values and not closed:
                raise SpaceError(f"axis {name!r} has no value; give one in {describe(self.axes[name])}")
            if name in values and not inside(self.axes[name], values[name]):
                raise SpaceError(
                    f"axis {name!r} = {values[name]!r} is outside {describe(self.axes[name])}; "
                    f"choose a value inside, or widen it with .replace({name}=...)"
                )

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether `validate` accepts the values, such as those of an earlier sweep's best trials."""
        try:
            self.validate(values)
        except SpaceError:
            return False
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts and numbers, from which `from_dict` makes an equal space."""
        return {
            "axes": {name: to_entry(distribution) for name, distribution in self.axes.items()},
            "conditions": {a: {p: list(v) for p, v in parents.items()} for a, parents in self.conditions.items()},
        }

    @classmethod
    def from_dict(cls, data: Any) -> Space:
        """Invert `to_dict`. Raise `SpaceError` for any other data, such as of a file that somebody has changed."""
        if not isinstance(data, Mapping) or not isinstance(data.get("axes"), Mapping):
            raise SpaceError(f"a space is a mapping with 'axes' and perhaps 'conditions', not {str(data)[:60]!r}")
        try:
            axes = {name: from_entry(name, entry) for name, entry in data["axes"].items()}
            return cls(axes, data.get("conditions") or {})
        except SpaceError:
            raise
        except (TypeError, ValueError, AttributeError, OverflowError) as fault:
            raise SpaceError(f"{' '.join(str(fault).split())}, in {str(data)[:60]!r}") from fault

    def to_yaml(self, path: str | Path) -> None:
        """Write the space to a file, from which `from_yaml` makes an equal one."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=120)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def from_yaml(cls, path: str | Path) -> Space:
        """Raise `SpaceError` naming the file if it is not a space, `OSError` if it cannot be read."""
        try:
            return cls.from_dict(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        except (SpaceError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as fault:
            reason = " ".join(str(fault).split())
            raise SpaceError(f"{path} is not a space: {reason}; compare with Space.to_yaml") from fault

    def _known(self, name: str) -> None:
        if name not in self.axes:
            raise SpaceError(f"axis {name!r} is not in the space; axes are {list(self.axes)}")

    def _check_condition(self, axis: str, parent: str, values: tuple[Any, ...]) -> None:
        # The condition on a fixed parent may never hold. A condition that no value of the range meets is an error.
        distribution = self.axes.get(parent)
        if distribution is None or distribution.single():
            return
        if never := [value for value in values if not inside(distribution, value)]:
            raise SpaceError(f"axis {axis!r} waits for {parent!r} = {never}, outside {describe(distribution)}")

    def _complete(self) -> None:
        for axis, parents in self.conditions.items():
            if missing := [parent for parent in parents if parent not in self.axes]:
                raise SpaceError(f"axis {axis!r} depends on {missing}, not in the space; join a space that has it")

    def _gates(self, name: str, values: Mapping[str, Any]) -> list[str]:
        """Return the unmet conditions of an axis; empty if it is active."""
        return [
            f"{parent} in {list(allowed)}"
            for parent, allowed in self.conditions.get(name, {}).items()
            if parent not in values or not any(same(values[parent], value) for value in allowed)
        ]

    def _order(self) -> list[str]:
        """Return the axes in their given order, but each after its parents."""
        order: list[str] = []
        waiting = list(self.axes)
        while waiting:
            ready = [n for n in waiting if not any(p in waiting for p in self.conditions.get(n, {}))]
            if not ready:
                raise SpaceError(f"the conditions of {waiting} wait for one another; break the circle")
            order.append(ready[0])
            waiting.remove(ready[0])
        return order
