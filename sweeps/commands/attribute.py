"""`espalier attribute`: how much of the winner's answers is attributed to the drafts that it wrote before them.

Two ablations of drafts are scores that a trial reports itself (`ablate_drafts`). This is the third: it applies
integrated gradients to the finished adapter in `best/` and to its answers to the test split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sweeps.results.leaderboard import percent, span
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import BEST, Run
from sweeps.results.statistics import interval
from sweeps.results.terminal import print
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import open_run, trial_of
from sweeps.spec.trust import apply_trust
from trainables.atomic import replace_file
from trainables.bad_input import BadInput
from trainables.core import Example

TABLE = "attribution.parquet"
REMEDY = "take a sweep whose winner reasons first (cot, dpo, phases)"


class Drafted(NamedTuple):
    """A question of the test split, the draft that the winner wrote, and its answer after it (Yes or No)."""

    item: int
    example: Example
    draft: str
    answer: str


def attribute(
    run: Path, /, questions: int = 50, steps: int = 32, base: str | None = None, trust: tuple[str, ...] = ()
) -> None:
    """Measure how much of the answers of runs/X's winner is attributed to its own drafts, by integrated gradients.

    Writes attribution.parquet into the run's folder.

    Args:
        run: the sweep's folder
        questions: number of questions: the first ones of the test split that have a draft
        steps: number of steps of the integral
        base: the base, if it has moved since the sweep
        trust: files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    """
    apply_trust(trust)
    for name, value in (("questions", questions), ("steps", steps)):
        if value < 1:
            raise BadInput(f"--{name} {value}:", "give 1 or more")
    source = open_run(run)
    record = trial_of(source, BEST)
    pair = rebuild(source.facts, remote_code=base is not None).resolve(record.params)
    answers = drafted(source, record, pair.task)
    table = _measured(base or pair.base, source.best, pair.task, answers[:questions], steps)
    replace_file(source.folder / TABLE, table.to_parquet(index=False))
    share = f"{len(table)} of {len(answers)} drafted answers to the test split"
    print(f"trial {record.number} ({record.learner}): integrated gradients of {share}, {steps} steps")
    print("\n".join([*in_words(table), f"a row per question: {source.folder / TABLE}"]))


def drafted(run: Run, record: TrialRecord, task: Any) -> list[Drafted]:
    """Return the answers of the adapter in best/ to the test split that parse and follow a draft.

    Raise BadInput if there are none.
    """
    answers = run.answers
    if answers.empty or record.trial_id not in set(answers.trial_id):
        raise BadInput(run.folder, "holds no answers to the test split", "run the sweep with --finalists 1 or more")
    own = (
        answers[(answers.trial_id == record.trial_id) & (answers.seed == 0)]
        .sort_values("item")
        .fillna({"completion": ""})
    )
    found = []
    for row in own.to_dict("records"):
        text, example = row["completion"], Example(row["prompt"], row["answer"], row["kind"], row["key"])
        draft, answer = task.draft(text), task.parse_answer(text)
        if draft and answer and answer.start >= len(draft):  # the whole of a bare "Yes." is the answer
            found.append(Drafted(int(row["item"]), example, draft, answer.answer))
    if not found:
        raise BadInput(f"{run.folder}:", f"its winner ({record.learner}) writes no drafts before its answers", REMEDY)
    return found


def _measured(base: str, adapter: Path, task: Any, answers: Sequence[Drafted], steps: int) -> pd.DataFrame:
    """Return a row per question: the texts, the right answer, the given one, and the fields of an `Attribution`.

    Computed in float32, because sums of gradients need its precision. 4-bit weights stay in 4 bits.
    """
    from trainables.learners.lm.attribution import attribute as attributed  # imports torch
    from trainables.learners.lm.attribution import parts
    from trainables.models.loading import BaseName
    from trainables.models.sampling import with_adapter

    try:
        loaded = with_adapter(base, adapter)
    except ValueError as error:
        raise BadInput(f"{error}; give the base's present place with --base") from error
    if "nf4" not in BaseName.parse(base).options:
        loaded.model.float()
    rows = []
    for one in answers:
        try:
            pieces = parts(task, loaded.tokenizer, one.example, one.draft, one.answer)
            found = attributed(loaded.model, pieces, loaded.eos, steps)
        except ValueError as error:
            raise BadInput(f"test question {one.item}:", str(error)) from error
        example = one.example
        row = {"item": one.item, "key": example.key, "kind": example.kind, "prompt": example.prompt}
        row |= {"draft": one.draft, "answer": example.answer, "given": one.answer}
        rows.append(row | asdict(found))
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame) -> list[str]:
    """Return a line per kind of question, one for all, and the completeness error of the integral."""
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby("kind", sort=False)
    lines = [_line(str(kind), own) for kind, own in groups]
    error, difference = table.error.abs(), table.difference.abs()
    return [
        *lines,
        *([_line("all", table)] if len(lines) > 1 else []),
        f"completeness error: {error.mean():.2g} nats on average ({error.max():.2g} at most), of a mean difference of"
        f" {difference.mean():.2g} nats from the baseline; more --steps make it smaller",
    ]


def _line(name: str, own: pd.DataFrame) -> str:
    where = (
        f"{percent(own.prompt_share.mean())} on the prompt, {percent(own.conclusion_share.mean())} on the conclusion"
    )
    return (
        f"  {name}: {percent(own.draft_share.mean())} on the draft (95 %: {span(interval(own.draft_share.tolist()))}),"
        f" {where}; {percent(own.token_share.mean())} of the tokens are the draft's; {len(own)} questions"
    )
