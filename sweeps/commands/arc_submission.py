"""`espalier export --submission`: write a finalist's answers in ARC's official format.

The file is one JSON object, `{"<task id>": [{"attempt_1": grid, "attempt_2": grid}, ...], ...}`, with an entry per test
input, as arcprize.org and Kaggle require it. If the data has tasks without test outputs, the trial is trained again and
answers all of them. Otherwise the file holds its scored answers to the test split (`finalists.parquet`, first seed).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeps.commands.reproduce import check_data, train
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import Run
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import job_of
from trainables.atomic import replace_file
from trainables.bad_input import BadInput
from trainables.core import Example
from trainables.tasks.arc.grids import parse_completion, submission
from trainables.tasks.arc.task import ArcTask, puzzle

NO_GRID: list[list[int]] = []  # the format's way to give no answer


def submit(run: Run, record: TrialRecord, file: Path) -> str:
    """Write the file and return a summary. Raise BadInput if the task is not ARC or the trial was no finalist."""
    task = rebuild(run.facts).resolve(record.params).task
    if not isinstance(task, ArcTask):
        raise BadInput(f"--submission is for ARC; {run.folder} is a sweep over {task.name!r}")
    check_data(run, task)
    if examples := task.unanswered():
        text_of, score = _answer_now(run, record, examples), "the number of right ones is unknown"
    else:
        examples, (text_of, score) = task.test(), _recorded_answers(run, record)
    entries = {one.key: _entries(text_of[one.key], len(puzzle(one).test_inputs)) for one in examples}
    try:
        replace_file(file, json.dumps(entries).encode())
    except OSError as error:
        raise BadInput(f"--submission {file} cannot be written: {error.strerror}") from error
    empty = sum(all(entry["attempt_1"] == NO_GRID for entry in task_entries) for task_entries in entries.values())
    return f"{len(entries)} tasks in {file}, {empty} of them without an answer; {score}"


def _answer_now(run: Run, record: TrialRecord, examples: Sequence[Example]) -> dict[str, str]:
    """Train the trial again and return its completions by task."""
    learner = train(run, job_of(run, record.trial_id), examples)
    completions = learner.evaluate().completions
    learner.close()
    return dict(zip((example.key for example in examples), completions, strict=True))


def _recorded_answers(run: Run, record: TrialRecord) -> tuple[dict[str, str], str]:
    """Return a finalist's completions by task, and their score in words."""
    answers = run.answers
    own = answers if answers.empty else answers[(answers.trial_id == record.trial_id) & (answers.seed == 0)]
    if own.empty:
        known = {one.trial_id: one.number for one in run.records}
        finalists = [str(known[one.trial_id]) for one in run.finals if one.trial_id in known]
        remedy = f"name one with --trial: {', '.join(finalists)}" if finalists else "run the sweep with --finalists 1"
        raise BadInput(f"trial {record.number} was not a finalist, so it did not answer the test split; {remedy}")
    return dict(zip(own.key, own.completion, strict=True)), f"pass@2 {own.score.mean():.1%}"


def _entries(text: str | None, outputs: int) -> list[dict[str, Any]]:
    """Return a completion, JSON or text, as entries of the format. Grids that cannot be parsed count as no answer."""
    attempts = parse_completion(text or "", outputs)
    if attempts is None:
        return [{"attempt_1": NO_GRID, "attempt_2": NO_GRID} for _ in range(outputs)]
    return json.loads(submission(attempts))
