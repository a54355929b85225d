"""The types of what the files of a sweep's folder hold. The folder may be damaged, or come from somebody else.

Only what is read is checked, and more entries are allowed: other versions write others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from trainables.bad_input import BadInput, reading, shortened

STRICT = ConfigDict(strict=True, extra="allow")

Positive = Annotated[int, Field(ge=1, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Number = int | float | None
Part = TypedDict("Part", {"name": str, "class": str, "fields": dict[str, Any]})


@with_config(STRICT)
class PairFacts(TypedDict):
    """A pair of the sweep. `fields` are checked where the learner or the task is made."""

    learner: Part
    task: Part
    base: str
    label: NotRequired[str]


@with_config(ConfigDict(strict=True, extra="forbid"))
class Earlier(TypedDict):
    """What earlier looks at the test split have used up (`EarlierLooks`)."""

    count: NotRequired[Count]
    questions: NotRequired[Count]
    seeds: NotRequired[Count]
    rate: NotRequired[Annotated[float, Field(ge=0, le=1)]]
    again: NotRequired[bool]


@with_config(STRICT)
class SweepValue(TypedDict):
    """The entry `sweep` of sweep.yaml."""

    name: str
    pairs: Annotated[list[PairFacts], Field(min_length=1)]
    optional: NotRequired[list[PairFacts]]
    first: NotRequired[list[dict[str, Any]]]
    space: dict[str, Any]
    num_samples: Positive
    rounds: Positive
    seed: NotRequired[int]
    grace_period: NotRequired[Positive]
    reduction_factor: NotRequired[Annotated[int, Field(ge=2)]]
    scheduler: NotRequired[str]
    objectives: NotRequired[list[str]]
    resources_per_trial: NotRequired[dict[str, Number]]
    earlier: NotRequired[Earlier]


@with_config(STRICT)
class DesignFacts(TypedDict):
    """The entry `design` of sweep.yaml, with --minutes."""

    trials: int


@with_config(STRICT)
class SweepFacts(TypedDict):
    """sweep.yaml."""

    sweep: SweepValue
    data_fingerprints: NotRequired[dict[str, str]]
    commit: NotRequired[str | None]
    python: NotRequired[str]
    versions: NotRequired[dict[str, str | None]]
    variables: NotRequired[dict[str, str]]
    guards: NotRequired[list[str]]
    design: NotRequired[DesignFacts]
    command: NotRequired[Annotated[list[str], Field(min_length=1)]]
    more_trials: NotRequired[list[Count]]


@with_config(STRICT)
class Placement(TypedDict):
    """How a host was made: threads of its process, and the fields of its `Shape`."""

    threads: NotRequired[Annotated[int, Field(ge=1, le=4096)]]
    shape: NotRequired[dict[str, int | None] | None]


@with_config(STRICT)
class EndFacts(TypedDict):
    """end.yaml."""

    baselines: NotRequired[dict[str, float]]
    untouched: NotRequired[dict[str, dict[str, Number]]]
    seconds: NotRequired[Number]
    interrupted: NotRequired[bool]
    seating: NotRequired[Placement]
    dollars: NotRequired[Number]


@with_config(STRICT)
class Look(TypedDict):
    """A comparison of finalists: its levels, and how many seeds and questions each finalist had then."""

    rate: float
    base_rate: float
    sizes: dict[str, Annotated[list[int], Field(min_length=2, max_length=2)]]


@with_config(STRICT)
class Spending(TypedDict):
    """Seconds that the finalists took, and what more of them would cost."""

    seconds: float
    budget: float
    costs: dict[str, Any]


@with_config(STRICT)
class FinalistFacts(TypedDict):
    """finalists.yaml."""

    trivial: NotRequired[dict[str, float]]
    lost: NotRequired[dict[str, str]]
    states: NotRequired[dict[str, list[str]]]
    looks: NotRequired[list[Look]]
    spending: NotRequired[Spending]
    parameters: NotRequired[dict[str, int]]
    look: NotRequired[Positive]
    spent: NotRequired[Annotated[float, Field(ge=0, le=1)]]
    again: NotRequired[bool]


SWEEP, END, BESIDE = TypeAdapter(SweepFacts), TypeAdapter(EndFacts), TypeAdapter(FinalistFacts)


def read_yaml(file: Path, schema: TypeAdapter[Any]) -> Mapping[str, Any]:
    """Return the content of a YAML file. Raise BadInput if it is no YAML, or has a value of another type."""
    with reading(file):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        try:
            return schema.validate_python(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = shortened(".".join(map(str, first["loc"]))) or "its content"
            raise BadInput(f"{file}:", f"{place}: {first['msg']}", "no sweep writes that") from error
