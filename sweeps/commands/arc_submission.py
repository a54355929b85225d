"""`espalier export --submission`: what a finalist answered to the test split, in ARC's official format.

One JSON object, `{"<task id>": [{"attempt_1": grid, "attempt_2": grid}, ...], ...}`, an entry per test input, as
arcprize.org and Kaggle take it. Where the data has tasks without test outputs, they are what is answered, all of them,
by the trial trained again. Else the answers are those that were scored (`finalists.parquet`, first seed), as they were.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.commands.reproduce import train
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import Run
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import job_of
from sweeps.spec.sweep import BadInput
from trainables.atomic import replace_file
from trainables.core import Example
from trainables.tasks.arc.grids import parse_completion, submission
from trainables.tasks.arc.task import ArcTask, puzzle

NO_GRID: list[list[int]] = []  # the format's own "no answer"


def submit(run: Run, record: TrialRecord, file: Path) -> str:
    """Write the file; what it holds, in words. Raises BadInput for another task, a trial that was no finalist."""
    task = rebuild(run.facts).resolve(record.params).task
    if not isinstance(task, ArcTask):
        raise BadInput(f"--submission is for ARC; {run.folder} is a sweep over {task.name!r}")
    if examples := task.unanswered():
        text_of, score = _said_now(run, record, examples), "how many are right is not known"
    else:
        examples, (text_of, score) = task.test(), _said_then(run, record)
    entries = {one.key: _entries(text_of[one.key], len(puzzle(one).test_inputs)) for one in examples}
    try:
        replace_file(file, json.dumps(entries).encode())
    except OSError as error:
        raise BadInput(f"--submission {file} cannot be written: {error.strerror}") from error
    empty = sum(all(entry["attempt_1"] == NO_GRID for entry in of_task) for of_task in entries.values())
    return f"{len(entries)} tasks in {file}, {empty} of them without an answer; {score}"


def _said_now(run: Run, record: TrialRecord, examples: Sequence[Example]) -> dict[str, str]:
    """Completions of the trial, trained again, by task."""
    learner = train(run, job_of(run, record.trial_id), examples)
    said = learner.evaluate().completions
    learner.close()
    return dict(zip((example.key for example in examples), said, strict=True))


def _said_then(run: Run, record: TrialRecord) -> tuple[dict[str, str], str]:
    """A finalist's completions by task, and what they scored."""
    answers = run.answers
    said = answers if answers.empty else answers[(answers.trial_id == record.trial_id) & (answers.seed == 0)]
    if said.empty:
        known = {one.trial_id: one.number for one in run.records}
        finalists = [str(known[one.trial_id]) for one in run.finals if one.trial_id in known]
        there = f"name one with --trial: {', '.join(finalists)}" if finalists else "run the sweep with --finalists 1"
        raise BadInput(f"trial {record.number} was no finalist, so it never saw the test split; {there}")
    return dict(zip(said.key, said.completion, strict=True)), f"pass@2 {said.score.mean():.1%}"


def _entries(text: str | None, outputs: int) -> list[dict[str, Any]]:
    """A completion, JSON or text, as the format's entries; grids that nobody can read are no answer."""
    attempts = parse_completion(text or "", outputs)
    if attempts is None:
        return [{"attempt_1": NO_GRID, "attempt_2": NO_GRID} for _ in range(outputs)]
    return json.loads(submission(attempts))
