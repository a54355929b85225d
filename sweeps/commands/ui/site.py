"""What `espalier ui` serves: the list of sweeps and their pages, made again when a file of theirs has changed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sweeps.commands.steering import clone_trial, expected_trials, state_of, stop_trial
from sweeps.commands.which_sweep import sweeps_in
from sweeps.persistence.lock import driver
from sweeps.report.headline import headline
from sweeps.report.list_page import ListedSweep, list_page
from sweeps.report.page import Live, page
from sweeps.report.plots import plots
from sweeps.results.run_folder import END_FILE, SWEEP_FILE, Run
from sweeps.results.tables import BESIDE, FINALISTS, TRIALS
from trainables.bad_input import BadInput

FILES = (SWEEP_FILE, END_FILE, TRIALS, FINALISTS, BESIDE)  # what a page is made of


@dataclass
class Site:
    """The sweeps in the folder `root`. Every address begins with a token, which only the user knows who started it.

    `mlflow` is the address of MLflow; empty if there is none.
    """

    root: Path
    token: str
    mlflow: str = ""
    _made: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def home(self) -> str:
        return f"/{self.token}/"

    def sweeps(self) -> dict[str, Path]:
        """Return the folders of sweeps by their paths below the root. No other folder can be asked for."""
        return {folder.relative_to(self.root).as_posix(): folder for folder in sweeps_in(self.root)}

    def index(self) -> tuple[str, str]:
        """Return the tag and the page of the list of sweeps."""
        known = self.sweeps()
        entries = [(self._entry(name, folder), (folder / SWEEP_FILE).stat().st_mtime) for name, folder in known.items()]
        entries.sort(key=lambda both: -both[1])
        listed = [entry for entry, _ in entries]
        tag = _digest(repr(listed))
        return tag, list_page(listed, Live(self.home, tag, self.mlflow))

    def sweep(self, name: str) -> tuple[str, str]:
        """Return the tag and the page of a sweep. Raises KeyError if there is none, and BadInput if it is damaged."""
        folder = self.sweeps()[name]

        def make(tag: str) -> str:
            run = Run.read(folder)
            return page(run, plots(run), Live(self.home, tag, self.mlflow, driver(folder) is not None))

        return self._kept(f"page {name}", folder, make)

    def act(self, name: str, verb: str, asked: Mapping[str, Any]) -> str:
        """Stop or clone a trial, and return what is to be said. Raises BadInput, and KeyError for what is not there."""
        folder, trial, values = self.sweeps()[name], asked.get("trial"), asked.get("values", [])
        if (
            not isinstance(trial, str)
            or not isinstance(values, list)
            or not all(isinstance(one, str) for one in values)
        ):
            raise BadInput("a trial is a text, and values are a list of texts")
        with self._lock:
            if verb == "stop":
                return stop_trial(trial, folder)
            if verb == "clone":
                return clone_trial(trial, tuple(values), folder)
        raise KeyError(verb)

    def _entry(self, name: str, folder: Path) -> ListedSweep:
        return self._kept(f"entry {name}", folder, lambda _: _listed(name, folder, f"{self.home}runs/{quote(name)}"))[1]

    def _kept(self, name: str, folder: Path, make: Callable[[str], Any]) -> tuple[str, Any]:
        """Return the tag of a folder's state, and what `make` made of that state, which is kept until it changes."""
        with self._lock:
            tag = _state(folder)
            if self._made.get(name, ("", None))[0] != tag:
                self._made[name] = tag, make(tag)
            return self._made[name]


def _listed(name: str, folder: Path, address: str) -> ListedSweep:
    try:
        run = Run.read(folder)
        trials = f"{len(run.records)} of {expected_trials(run)}"
        return ListedSweep(name, address, state_of(run, driver(folder)), trials, headline(run))
    except BadInput as error:
        return ListedSweep(name, address, "damaged", "-", str(error))


def _state(folder: Path) -> str:
    """Return a text that changes when a file of a sweep does, or its driver starts or ends."""
    facts: list[Any] = [driver(folder)]
    for name in FILES:
        try:
            known = (folder / name).stat()
        except FileNotFoundError:
            continue
        facts += [name, known.st_mtime_ns, known.st_size, known.st_ino]
    return _digest(repr(facts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
