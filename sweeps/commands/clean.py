"""`espalier clean`: what sweeps, caches and artifacts take on this disk; what is named is removed, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sweeps.commands.which_sweep import ROOT, answer, can_ask, sweeps_in
from sweeps.persistence.lock import driver, driving
from sweeps.results.terminal import print
from trainables.bad_input import BadInput
from trainables.cache import cache_folder
from trainables.models.gguf import entries

ARTIFACTS = Path("mlartifacts")  # beside mlflow.db, in the folder in which sweeps are started
MB = 1e6  # bytes


@dataclass(frozen=True)
class Entry:
    """Something that can be removed."""

    path: Path
    what: str
    is_sweep: bool = False

    @property
    def size(self) -> int:
        """Bytes of its files; what a link leads to is not counted."""
        size = 0
        for file in (Path(place) / name for place, _, names in os.walk(self.path) for name in names):
            with suppress(FileNotFoundError):  # a sweep that runs has just removed it
                size += file.lstat().st_size
        return size


def clean(names: tuple[str, ...] = (), /, yes: bool = False) -> None:
    """List what sweeps, caches and artifacts take, or remove those that are named.

    Args:
        names: as the list has them, such as runs/arena or cache/features; none: only list
        yes: remove without asking
    """
    known = removable()
    if not names:
        for name, one in known.items():
            print(f"{one.size / MB:>10,.1f} MB  {name}: {one.what}")
        print(f"{sum(one.size for one in known.values()) / MB:>10,.1f} MB in all; espalier clean NAME ... removes some")
        return
    chosen = dict.fromkeys(str(Path(name)) for name in names)
    for name in chosen:
        _check(name, known)
    size = sum(known[name].size for name in chosen)
    _ask(f"remove {', '.join(chosen)}, {size / MB:,.1f} MB?", yes)
    for name in chosen:
        _remove(known[name])
        print(f"removed {name}")


def removable() -> dict[str, Entry]:
    """Return by name what lies here: sweeps in runs/, what is in the cache, and MLflow's artifacts."""
    known = {str(folder): Entry(folder, _state(folder), True) for folder in sorted(sweeps_in(ROOT))}
    cache = cache_folder()
    models = {str(Path("cache/gguf") / one.folder.name): Entry(one.folder, f"model of {one.file}") for one in entries()}
    parts = {"features": "features of ARC tasks", "programs": "programs' answers to ARC tasks"}
    known |= models | {f"cache/{name}": Entry(cache / name, what) for name, what in parts.items()}
    known[str(ARTIFACTS)] = Entry(ARTIFACTS, "files that MLflow shows, registered models among them")
    return {name: one for name, one in known.items() if one.path.is_dir()}


def _state(folder: Path) -> str:
    process = driver(folder)
    return f"runs (process {process})" if process else "a sweep that does not run"


def _check(name: str, known: Mapping[str, Entry]) -> None:
    """Raise BadInput for what is not in the list, leads elsewhere, or is in use."""
    if name not in known:
        there = ", ".join(known) or "nothing here"
        raise BadInput(name, f"is nothing that espalier clean removes; it knows {there}", "give one of these")
    path = known[name].path
    if path.is_symlink() or (known[name].is_sweep and any(one.is_symlink() for one in path.parents)):
        raise BadInput(path, f"is a link to {path.resolve()}", "remove that yourself")
    folders = [path] if known[name].is_sweep else [one.path for one in known.values() if one.is_sweep]
    for folder in folders:
        if (process := driver(folder)) is not None:
            raise BadInput(f"{name}:", f"{folder} is being run by process {process}", "wait, or end it with Ctrl-C")


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not can_ask():
        raise BadInput(question, "nobody can be asked here", "add --yes")
    if answer(f"{question} [y/N] ").lower() not in ("y", "yes"):
        raise BadInput(question, "was not answered with yes, and nothing is removed", "answer y, or add --yes")


def _remove(one: Entry) -> None:
    """Remove a folder; a sweep's while nobody can start to run it. Raises BadInput."""
    try:
        if one.is_sweep:
            with driving(one.path):
                shutil.rmtree(one.path)
        else:
            shutil.rmtree(one.path)
    except OSError as error:
        raise BadInput(one.path, f"cannot be removed ({error.strerror})", "remove it yourself") from error
