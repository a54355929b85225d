"""Space: an immutable mapping of axis names to Optuna distributions, with conditions.

A space says what may vary and nothing about how it is searched, so the same value serves TPE, random search, a
one-off `FixedTrial`, or a new model. Every method returns a new space. Errors are `SpaceError`, one line each.
What one axis can be is in `axis.py`.
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

Conditions = Mapping[str, Mapping[str, tuple[Any, ...]]]  # axis -> {parent axis: the values it is active for}


@dataclass(frozen=True)
class Space:
    """`axes`: name -> distribution. `conditions`: an axis is active only if every parent is, with one of those values.

    A parent may be missing (as after `when`, before the join that brings it); it must be there to suggest or validate.
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
        """Both spaces' axes. Raises `SpaceError` on an axis that both have."""
        if twice := [name for name in self.axes if name in other.axes]:
            raise SpaceError(f"axes {twice} are in both spaces; drop one with .without({twice[0]!r}) before joining")
        return Space({**self.axes, **other.axes}, {**self.conditions, **other.conditions})

    def replace(self, **distributions: BaseDistribution) -> Space:
        """Other distributions for existing axes; their conditions stay."""
        for name in distributions:
            self._known(name)
        return Space({**self.axes, **distributions}, self.conditions)

    def without(self, *names: str) -> Space:
        """The space less these axes: the learner's own default applies to them."""
        for name in names:
            self._known(name)
            gated = [axis for axis, parents in self.conditions.items() if name in parents and axis not in names]
            if gated:
                raise SpaceError(f"axis {name!r} decides whether {gated} are active; remove them too, or use .fix")
        kept = {name: distribution for name, distribution in self.axes.items() if name not in names}
        return Space(kept, {axis: parents for axis, parents in self.conditions.items() if axis in kept})

    def fix(self, **values: Any) -> Space:
        """Constants instead of ranges; they stay in the parameters, so that every record of a trial shows them."""
        return self.replace(**{name: CategoricalDistribution((value,)) for name, value in values.items()})

    def given(self, axis: str, **parents: Any) -> Space:
        """`axis` is active only if each parent has that value, or one of those values (tuple or list)."""
        self._known(axis)
        allowed = {name: tuple(v) if isinstance(v, tuple | list) else (v,) for name, v in parents.items()}
        return Space(self.axes, {**self.conditions, axis: {**self.conditions.get(axis, {}), **allowed}})

    def when(self, **gate: str) -> Space:
        """`.when(learner="lora")`: every axis becomes `lora.<axis>`, active only if the axis `learner` is "lora".

        So two learners in one sweep keep their own ranges; join with `Space({"learner": ...})`.
        """
        if len(gate) != 1:
            raise SpaceError(f"when takes one axis, as in .when(learner='lora'), not {sorted(gate)}")
        ((parent, value),) = gate.items()
        renamed = {name: f"{value}.{name}" for name in self.axes}
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
        prefix = f"{value}."
        own = [name for name in self.axes if name.startswith(prefix)]
        return Space(
            {name.removeprefix(prefix): self.axes[name] for name in own},
            {
                name.removeprefix(prefix): {
                    other.removeprefix(prefix): values
                    for other, values in self.conditions.get(name, {}).items()
                    if other != parent
                }
                for name in own
            },
        )

    def active(self, axis: str, values: Mapping[str, Any]) -> bool:
        """Whether an axis' conditions hold for these values of its parents."""
        self._known(axis)
        return not self._gates(axis, values)

    def opening(self, axis: str) -> dict[str, tuple[Any, ...]]:
        """The axes that decide whether `axis` is active, directly or through one another: each with the values in its
        range for which it is; with none of them where it never is."""
        self._known(axis)
        self._complete()
        found: dict[str, tuple[Any, ...]] = {}
        waiting = [axis]
        while waiting:
            for parent, values in self.conditions.get(waiting.pop(), {}).items():
                other = found.get(parent, values)  # several axes on the way may ask the same one
                both = (v for v in values if inside(self.axes[parent], v) and any(same(v, w) for w in other))
                found[parent] = tuple(both)
                waiting.append(parent)
        return found

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """The active axes' values, asked of an Optuna trial, parents first."""
        self._complete()
        values: dict[str, Any] = {}
        for name in self._order():
            if not self._gates(name, values):
                values[name] = suggest(trial, name, self.axes[name])
        return values

    def validate(self, values: Mapping[str, Any]) -> None:
        """Raises `SpaceError` unless `values` has exactly the active axes, each inside its range."""
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
        """Whether `validate` accepts the values (a past sweep's best trials, before they are suggested again)."""
        try:
            self.validate(values)
        except SpaceError:
            return False
        return True

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, dicts and numbers; `from_dict` gives the same space back."""
        return {
            "axes": {name: to_entry(distribution) for name, distribution in self.axes.items()},
            "conditions": {a: {p: list(v) for p, v in parents.items()} for a, parents in self.conditions.items()},
        }

    @classmethod
    def from_dict(cls, data: Any) -> Space:
        if not isinstance(data, Mapping) or not isinstance(data.get("axes"), Mapping):
            raise SpaceError(f"a space is a mapping with 'axes' and perhaps 'conditions', not {str(data)[:60]!r}")
        conditions = data.get("conditions") or {}
        return cls({name: from_entry(name, entry) for name, entry in data["axes"].items()}, conditions)

    def to_yaml(self, path: str | Path) -> None:
        """Write the space; `from_yaml` reads back an equal one."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=120)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def from_yaml(cls, path: str | Path) -> Space:
        """Raises `SpaceError` naming the file if it is not a space, `OSError` if it cannot be read."""
        try:
            return cls.from_dict(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
        except (SpaceError, yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError, AttributeError) as fault:
            reason = " ".join(str(fault).split())
            raise SpaceError(f"{path} is not a space: {reason}; compare with Space.to_yaml") from fault

    def _known(self, name: str) -> None:
        if name not in self.axes:
            raise SpaceError(f"axis {name!r} is not in the space; axes are {list(self.axes)}")

    def _check_condition(self, axis: str, parent: str, values: tuple[Any, ...]) -> None:
        # A fixed parent may leave a condition that never holds; a condition that no range could meet is a slip.
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
        """The conditions that keep an axis from being active; empty if it is."""
        return [
            f"{parent} in {list(allowed)}"
            for parent, allowed in self.conditions.get(name, {}).items()
            if parent not in values or not any(same(values[parent], value) for value in allowed)
        ]

    def _order(self) -> list[str]:
        """Axes in their given order, but each after its parents."""
        order: list[str] = []
        waiting = list(self.axes)
        while waiting:
            ready = [n for n in waiting if not any(p in waiting for p in self.conditions.get(n, {}))]
            if not ready:
                raise SpaceError(f"the conditions of {waiting} wait for one another; break the circle")
            order.append(ready[0])
            waiting.remove(ready[0])
        return order
