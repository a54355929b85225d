"""Records every trial: in memory, in Tune's snapshots, and on disk as a leaderboard."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from ray.tune import Callback, Checkpoint

from sweeps.persistence.interrupt import disk_fault
from sweeps.results import pareto, rungs
from sweeps.results.checkpoint_hash import checkpoint_hash
from sweeps.results.confirmation import Confirmation, beside_answers
from sweeps.results.finals import left_out, markdown
from sweeps.results.leaderboard import write_all
from sweeps.results.records import (
    UNRANKED,
    TrialRecord,
    by_score,
    clusters_of,
    how_ended,
    untouched_baseline,
    winner,
)
from sweeps.results.run_folder import BEST, earlier_looks
from sweeps.results.tables import BESIDE, FINALISTS, finalists_parquet
from sweeps.results.terminal import print
from sweeps.spec.sweep import Sweep
from sweeps.tracking.events import round_of
from sweeps.tuning.stopping import STOP_FOLDER
from sweeps.tuning.surplus import Surplus, best_checkpoint
from trainables.atomic import replace_file, replacing_folder, restore_folder
from trainables.bad_input import reading
from trainables.checks.rl_marks import rl_marks
from trainables.checks.trial_warnings import best_round_warnings, first_round_warnings
from trainables.core import Example
from trainables.runtime.host_client import paused
from trainables.runtime.trial import ADAPTER_FOLDER

HASHES = "hashes.yaml"
WRITE_EVERY_S = 5.0  # between two writes of the leaderboard while nothing ends
WRITE_SHARE = 0.02  # of the time, at most, that writing it takes while trials run: a thousand trials take a second
ENDED = ("finished", "pruned", "diverged", "failed")  # for good


class Recorder(Callback):
    """Keeps a `TrialRecord` per trial, writes the leaderboard files, and copies the best adapter to `best/`."""

    def __init__(self, folder: Path, sweep: Sweep, baselines: dict, remarks: Sequence[str] = ()) -> None:
        self.folder, self.rounds, self._sweep = folder, sweep.rounds, sweep
        self.records: dict[str, TrialRecord] = {}
        self._baselines, self._remarks = baselines, remarks
        self.why_over = ""  # why the search ended before all trials had started, if it did so by itself
        keys = {pair.name: [one.key for one in pair.task.search()] for pair in sweep.pairs}
        self._clusters = {name: tuple(clusters_of(own)) for name, own in keys.items()}
        self._written = self._write_s = 0.0  # when it was written, and how long that took
        self._is_stale = self._warned = False  # a trial has ended since; a write has failed
        self.surplus = Surplus(sweep.keep)
        self._best_ended: Any = None  # Tune's trial: the best of those that have ended
        self._begun = False  # Tune has made its first step
        self.confirmation = Confirmation()
        self.earlier = earlier_looks(folder)  # at the test split
        restore_folder(folder / BEST)  # an earlier driver may have been killed while it replaced the folder

    def on_trial_start(self, iteration, trials, trial, **info) -> None:
        self._begin(trial)
        self._set(trial.trial_id, status="running")  # also if it goes on after an interruption

    def _begin(self, trial) -> None:
        """Add a trial's record. Tune calls `on_trial_start` when the process is up, and so never for a trial whose
        set-up fails."""
        if trial.trial_id in self.records:
            return
        number, params = len(self.records), trial.config["params"]
        self.records[trial.trial_id] = TrialRecord(trial.trial_id, number, params, "running")

    def on_trial_recover(self, iteration, trials, trial, **info) -> None:
        self._begin(trial)
        self._note(trial.trial_id, "restored")

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        record = self.records[trial.trial_id]
        entry = round_of(result) | {"at": time.time()}
        history = record.history.with_round(entry)
        items = result.get("items") or []
        update: dict[str, Any] = {"history": history}
        if items:
            update["n_items"] = len(items)
        if history.best is entry:
            clusters = self._clusters[record.pair]
            update |= {"items": tuple(items), "clusters": clusters if len(clusters) == len(items) else ()}
        elif (
            history.best is not record.history.best
        ):  # the best round was repeated with a lower score: its items are gone
            update |= {"items": (), "clusters": ()}
        if history.diverged:
            update |= {"status": "diverged", "items": (), "clusters": (), "n_items": 0}
        self._set(trial.trial_id, **update)
        for mark in first_round_warnings(result):
            self._note(trial.trial_id, mark)
        if result.get("memory_halvings"):
            self._note(trial.trial_id, "short of memory: fewer rows at a time")
        self._write_if_due(WRITE_EVERY_S)

    def on_step_begin(self, iteration, trials, **info) -> None:
        """Look at the trials of a resumed sweep once: its driver may have ended before it deleted what was surplus."""
        if not self._begun:
            self._begun = True
            for trial in trials:
                record = self.records.get(trial.trial_id)
                self._look(trial, ended=trial.is_finished() and record is not None and record.status in ENDED)

    def on_trial_save(self, iteration, trials, trial, **info) -> None:
        self._look(trial)

    def on_trial_complete(self, iteration, trials, trial, **info) -> None:
        if trial.trial_id not in self.records:  # Tune ends a trial that never started when the sweep is cut short
            return
        self._set(trial.trial_id, status=how_ended(trial.last_result, self.rounds))
        if (self.folder / STOP_FOLDER / trial.trial_id).exists():
            self._note(trial.trial_id, "stopped by hand")
        with self._later():
            self.keep_best(trials)
        self._take_end(trial, self.records[trial.trial_id].status in ENDED)

    def on_step_end(self, iteration, trials, **info) -> None:
        for trial_id in paused(trials):
            if self.records[trial_id].status != "paused":
                self._set(trial_id, status="paused")
        if self._is_stale:
            self._write_if_due(WRITE_EVERY_S if self._warned else 0.0)

    def on_trial_error(self, iteration, trials, trial, **info) -> None:
        self._begin(trial)
        self._set(trial.trial_id, status="failed")
        self._take_end(trial, for_good=True)

    def _take_end(self, trial: Any, for_good: bool) -> None:
        """Look what is surplus of a trial that has ended, and write the leaderboard now or later."""
        self._look(trial, ended=for_good)
        self._is_stale = True
        self._write_if_due()

    def on_experiment_end(self, trials, **info) -> None:
        """Set the status of trials that a time budget or Ctrl-C ended: Tune makes no call for them."""
        for trial in trials:
            record = self.records.get(trial.trial_id)
            if record and record.status in ("running", "paused"):
                self._set(trial.trial_id, status=how_ended(trial.last_result, self.rounds))

    def get_state(self) -> dict[str, Any]:
        return {"records": self.records, "why_over": self.why_over}

    def set_state(self, state: dict[str, Any]) -> None:
        self.records = state["records"]
        self.why_over = "" if self._sweep.all_trials else state.get("why_over", "")

    def best(self) -> TrialRecord | None:
        """Return the trial of the best finalist, or before that of the highest score; the earlier trial on a tie."""
        return winner(list(self.records.values()), self.confirmation.finals)

    def none_is_usable(self) -> bool:
        """Return whether all trials have failed or diverged."""
        return bool(self.records) and all(one.status in UNRANKED for one in self.records.values())

    def keep_best(self, trials: list[Any]) -> None:
        """Copy the adapter in the best checkpoint of the best trial to `best/`."""
        if self.confirmation.finals:  # of a search that went on: `best/` is theirs until others are confirmed
            return
        best = self.best()
        trial = next((t for t in trials if best and t.trial_id == best.trial_id), None)
        checkpoint = best_checkpoint(trial) if trial else None
        if checkpoint and Path(checkpoint.path).is_dir():  # deleted if others were better when its trial ended
            self.keep_adapter(checkpoint)

    def begin_look(self, trials: list[Any]) -> None:
        """Let the finalists so far be those of an earlier look, which lie in a folder of their own by now."""
        self.confirmation, self.earlier = Confirmation(), earlier_looks(self.folder)
        self.keep_best(trials)
        self.write()

    def keep_adapter(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint's adapter to `best/`, which holds a complete one at every moment, old or new."""
        with checkpoint.as_directory() as source, replacing_folder(self.folder / BEST) as fresh:
            shutil.copytree(Path(source) / ADAPTER_FOLDER, fresh)

    def judge(self) -> None:
        """Add warnings to trials whose best round means little, and to those that learned from rewards and went wrong.
        Call it when all baselines are known."""
        for record in by_score(self.records.values()):
            if best := record.history.best:
                for mark in best_round_warnings(best, baselines_of(record, self._baselines)):
                    self._note(record.trial_id, mark)
        for record in [*self.records.values()]:
            for mark in rl_marks(record.history, record.independent):
                self._note(record.trial_id, mark)

    def conclusions(self) -> list[str]:
        """Conclude which finalists are missing, whether ASHA ended the best, and what is on the Pareto front."""
        records, sweep, known = list(self.records.values()), self._sweep, self.confirmation
        return [
            *([self.why_over] if self.why_over else []),
            *left_out(known.finals, known.lost),
            *(rungs.in_words(records, known.finals, sweep.rounds) if sweep.minutes is None else ()),
            *pareto.in_words(records, sweep.objectives),
        ]

    def _write_if_due(self, after_s: float = 0.0) -> None:
        """Write the leaderboard if the last time was `after_s` ago, and long enough ago for `WRITE_SHARE`."""
        if time.monotonic() - self._written > max(after_s, self._write_s / WRITE_SHARE):
            with self._later():
                self.write()

    @contextmanager
    def _later(self) -> Iterator[None]:
        """While trials run, what a disk does not take now is written later: at the latest at the end, which raises."""
        try:
            yield
        except OSError as error:
            if disk_fault(error) is None:
                raise
            self._written, self._is_stale = time.monotonic(), True
            if not self._warned:
                self._warned = True
                print(f"warning: {self.folder} is not up to date: {error.strerror}; trying again", file=sys.stderr)

    def write(self) -> None:
        began = time.monotonic()
        records = list(self.records.values())
        section = markdown(self.confirmation, self.earlier) if self.confirmation.finals or self.earlier else ""
        write_all(
            self.folder,
            records,
            baselines=self._baselines,
            rounds=self.rounds,
            pairs=self._sweep.pair_names,
            remarks=[*self._remarks, *self.conclusions()],
            section=section,
        )
        self._written, self._is_stale, self._warned = time.monotonic(), False, False
        self._write_s = self._written - began

    def confirm(self, known: Confirmation, checkpoints: Mapping[str, Checkpoint], asked: Sequence[Example]) -> None:
        """Record the finalists for the leaderboard, the table of answers and `best/`.

        `checkpoints` are those of first seeds, by trial id (choosing the best seed would be choosing by luck), if they
        are at hand; `asked` are the questions of the test split. From here on `best/` has an adapter whose test score
        was measured.
        """
        none = all(one.is_untouched for one in known.finals)  # no finalist finished; a base does not count as one
        if none:
            known = replace(known, finals=(), looks=(), spending=None)
        self.confirmation = known
        replace_file(self.folder / BESIDE, yaml.safe_dump(beside_answers(known)).encode())
        if none:
            self.write()
            return
        best = self.best()
        if best and best.trial_id in checkpoints:
            self.keep_adapter(checkpoints[best.trial_id])
        keep_hashes(self.folder, checkpoints)
        # Last, as --resume takes its presence as a sign that the rest is done.
        replace_file(self.folder / FINALISTS, finalists_parquet(known.finals, asked))
        self.write()

    def _look(self, trial: Any, ended: bool = False) -> None:
        """Look which checkpoints of a trial nothing wants any more. If it is the best that has `ended`, also those of
        the one that was before."""
        best = winner([one for one in self.records.values() if one.status in ENDED], []) if ended else None
        is_best = best is not None and best.trial_id == trial.trial_id
        if is_best:
            before, self._best_ended = self._best_ended, trial
            if before is not None and before is not trial:
                self.surplus.look(before, ended=True)
        self.surplus.look(trial, ended, is_best)

    def _note(self, trial_id: str, note: str) -> None:
        if note not in (notes := self.records[trial_id].notes):
            self._set(trial_id, notes=(*notes, note))

    def _set(self, trial_id: str, **fields: Any) -> None:
        self.records[trial_id] = replace(self.records[trial_id], **fields)


def baselines_of(record: TrialRecord, baselines: Mapping[str, float]) -> dict[str, float]:
    """Return the baselines without the scores of other bases than the trial's before training."""
    any_base, own = untouched_baseline(""), untouched_baseline(record.params.base)
    return {name: value for name, value in baselines.items() if not name.startswith(any_base) or name == own}


def keep_hashes(folder: Path, checkpoints: Mapping[str, Checkpoint]) -> None:
    """Write the `checkpoint_hash` of every finalist that has weights, by trial id, beside those that are known."""
    hashes = hashes_of(folder)
    for trial_id, checkpoint in checkpoints.items():
        with checkpoint.as_directory() as source, suppress(ValueError):
            hashes[trial_id] = checkpoint_hash(Path(source) / ADAPTER_FOLDER)
    replace_file(folder / HASHES, yaml.safe_dump(hashes).encode())


def hashes_of(folder: Path) -> dict[str, str]:
    """Read the hashes that `keep_hashes` wrote; empty without finalists."""
    if not (folder / HASHES).is_file():
        return {}
    with reading(folder / HASHES):
        return dict(yaml.safe_load((folder / HASHES).read_text()))
