"""`--resume` continues only the sweep that was started. Otherwise it is refused, with the flags that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sweeps.results.run_folder import Run
from trainables.bad_input import BadInput
from trainables.core import ON_BASE
from trainables.models.gguf import without_hash

# Fields that change how a sweep runs, not what it searches.
HOW = {
    "earlier",
    "minutes",
    "time_budget_s",
    "max_cost",
    "max_concurrent_trials",
    "seats",
    "hosts",
    "finalists",
    "keep",
    "all_trials",
    "num_workers",
    "parallel_strategy",
}
MAY_CHANGE = HOW | {"resources_per_trial", "observations"}  # on --resume; an earlier sweep may have gone on
PARTS = {"pairs", "optional", "space"}  # compared in detail
EARLIER_STATE = b"PK\x03\x04"  # the beginning of torch's files, as states were before they were plain data
SHOWN, WIDTH = 4, 40  # differences in a message, and characters of each value


def check_same(folder: Path, facts: dict[str, Any], may_change: Iterable[str] = ()) -> None:
    """Raise BadInput, with the differing flags, unless these are the facts of the sweep in the folder. `may_change`:
    fields that may differ here."""
    before, now = Run.read(folder).facts, yaml.safe_load(yaml.safe_dump(facts))
    before = {**before, "sweep": before["sweep"] | {name: now["sweep"][name] for name in may_change}}
    if _classes(before) != _classes(now) and _classes(before, names=True) == _classes(now, names=True):
        raise BadInput(
            "--resume:",
            f"{folder} was started at commit {before.get('commit') or 'unknown'}, whose files lay"
            " elsewhere, and its snapshot names them",
            "check out that commit to go on, or start a new sweep with --name",
        )
    changed = changes(before, now)
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise BadInput(
            "--resume:",
            f"{folder} was started otherwise: {'; '.join(changed[:SHOWN])}{more}",
            "give the flags it had, or start a new sweep with --name",
        )


def check_readable(folder: Path) -> None:
    """Raise BadInput if an earlier version wrote the states of the trials, which this version cannot read.

    Learners that are not Espalier's may write states of any kind.
    """
    facts = Run.read(folder).facts
    if all(one.startswith("trainables.") for one in _classes(facts)):
        for file in folder.glob("tune/*/checkpoint_*/state.pt"):
            with file.open("rb") as opened:
                if opened.read(len(EARLIER_STATE)) == EARLIER_STATE:
                    raise BadInput(
                        "--resume:",
                        f"{file} was written by an earlier version",
                        f"git checkout {facts.get('commit') or 'the code that made it'} to go on, or"
                        " start a new sweep with --name",
                    )


def _classes(facts: Mapping[str, Any], names: bool = False) -> list[str]:
    """Return the classes of a sweep's learners and tasks, with their modules or, for `names`, without."""
    found = [pair[part]["class"] for pair in facts["sweep"]["pairs"] for part in ("learner", "task")]
    return [one.rpartition(".")[2] for one in found] if names else found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the differences between a sweep's facts and those of its resumption, each as `FLAG OLD -> NEW`."""
    old, new = before["sweep"], now["sweep"]
    for flag, names in (("--learner", _learners), ("--base", _all_bases)):  # their spaces differ, too
        several = flag == "--learner" or any(pair.get("label") for pair in (*old["pairs"], *new["pairs"]))
        if several and names(old) != names(new):
            return [_change(flag, *(" ".join(names(sweep)) for sweep in (old, new)))]
    whole = _differing(old, new, old.keys() - MAY_CHANGE)
    found = [(f"--{name}", *values) for name, *values in whole if name not in PARTS]
    for one, other in zip(old["pairs"], new["pairs"], strict=True):
        found += [("--base", *_bases(*values)) for _, *values in _differing(one, other, ["base"])]
        for part, flag in (("task", "--task."), ("learner", f"--set {_name(one)}.")):
            fields, others = one[part]["fields"], other[part]["fields"]
            found += [(f"{flag}{name}", *values) for name, *values in _differing(fields, others, fields)]
    axes, others = old["space"]["axes"], new["space"]["axes"]
    found += [(f"--set {name}", *values) for name, *values in _differing(axes, others, axes | others)]
    data = _differing(before["data_fingerprints"], now["data_fingerprints"], before["data_fingerprints"])
    return (
        [*dict.fromkeys(_change(*one) for one in found)]
        or [f"its {name} changed" for name, *_ in whole]
        or [f"the data of {name} itself changed" for name, *_ in data]
    )


def _name(pair: Mapping[str, Any]) -> str:
    """Return what `Pair.name` is."""
    return pair["learner"]["name"] + (f"{ON_BASE}{pair['label']}" if pair.get("label") else "")


def _learners(sweep: Mapping[str, Any]) -> list[str]:
    return [*dict.fromkeys(pair["learner"]["name"] for pair in sweep["pairs"])]


def _all_bases(sweep: Mapping[str, Any]) -> list[str]:
    return [*dict.fromkeys(without_hash(pair["base"]) for pair in sweep["pairs"] if pair["base"] != "none")]


def _bases(old: str, new: str) -> tuple[str, str]:
    """Return two bases as they are shown: by their names, or if these are equal, by the sha256 of their files."""
    names = (without_hash(old), without_hash(new))
    if names[0] != names[1]:
        return names
    hashes = (base.rpartition("sha256=")[2][:12] for base in (old, new))
    return f"a file with sha256 {next(hashes)}...", f"another, {next(hashes)}..."


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, Any, Any]]:
    return [(name, old.get(name), new.get(name)) for name in sorted(names) if old.get(name) != new.get(name)]


def _change(name: str, old: Any, new: Any) -> str:
    def short(value: Any) -> str:
        if isinstance(value, dict):  # an axis
            value = " or ".join(map(str, value["choices"])) if "choices" in value else f"{value['low']}-{value['high']}"
        text = "not set" if value is None else str(value)
        return text if len(text) <= WIDTH else f"{text[:WIDTH]}..."

    flag = name if name.startswith("--set") else name.replace("_", "-")
    return f"{flag} {short(old)} -> {short(new)}"
