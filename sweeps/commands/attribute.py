"""`espalier attribute`: how much of the winner's answers lies on the drafts that it wrote before them.

The third ablation of drafts. The other two are scores, and a trial reports them itself (`ablate_drafts`); this one
reads the finished adapter in `best/`, and what it said to the test split.
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
from sweeps.spec.deserialize import rebuild
from sweeps.spec.open_run import open_run, trial_of
from sweeps.spec.sweep import BadInput
from trainables.atomic import replace_file
from trainables.core import Example

TABLE = "attribution.parquet"
REMEDY = "take a sweep whose winner reasons first (cot, dpo, phases)"


class Drafted(NamedTuple):
    """A question of the test split, what stands before the answer to it, and that answer (Yes or No)."""

    item: int
    example: Example
    draft: str
    answer: str


def attribute(run: Path, /, questions: int = 50, steps: int = 32, base: str | None = None) -> None:
    """Say how much of the answers of runs/X's winner lies on its own drafts, by integrated gradients.

    Writes attribution.parquet into the run's folder.

    Args:
        run: the sweep's folder
        questions: of the test split, the first ones that it wrote a draft for
        steps: of the integral
        base: where the sweep's own base is no longer where it was
    """
    for name, value in (("questions", questions), ("steps", steps)):
        if value < 1:
            raise BadInput(f"--{name} {value}: give 1 or more")
    left = open_run(run)
    record = trial_of(left, BEST)
    pair = rebuild(left.facts).resolve(record.params)
    said = drafted(left, record, pair.task)
    table = _measured(base or pair.base, left.best, pair.task, said[:questions], steps)
    replace_file(left.folder / TABLE, table.to_parquet(index=False))
    asked = f"{len(table)} of {len(said)} drafted answers to the test split"
    print(f"trial {record.number} ({record.learner}): integrated gradients of {asked}, {steps} steps")
    print("\n".join([*in_words(table), f"a row per question: {left.folder / TABLE}"]))


def drafted(run: Run, record: TrialRecord, task: Any) -> list[Drafted]:
    """What the adapter in best/ said to the test split, where a draft stands before a readable answer.

    BadInput where it never does.
    """
    answers = run.answers
    if answers.empty or record.trial_id not in set(answers.trial_id):
        raise BadInput(f"{run.folder} holds no answers to the test split; run the sweep with --finalists 1 or more")
    own = (
        answers[(answers.trial_id == record.trial_id) & (answers.seed == 0)]
        .sort_values("item")
        .fillna({"completion": ""})
    )
    found = []
    for row in own.to_dict("records"):
        text, example = row["completion"], Example(row["prompt"], row["answer"], row["kind"], row["key"])
        draft, answer = task.draft(text), task.said(text)
        if draft and answer and answer.start >= len(draft):  # a bare "Yes." is all of it the answer
            found.append(Drafted(int(row["item"]), example, draft, answer.answer))
    if not found:
        raise BadInput(f"{run.folder}: its winner ({record.learner}) writes no drafts before its answers; {REMEDY}")
    return found


def _measured(base: str, adapter: Path, task: Any, said: Sequence[Drafted], steps: int) -> pd.DataFrame:
    """A row per question: the texts, the right answer and the one given, and the fields of an `Attribution`.

    In float32 whatever the base computes in, as sums of gradients need it; 4-bit weights stay what they are.
    """
    from trainables.learners.lm.attribution import attribute as attributed  # here: torch
    from trainables.learners.lm.attribution import parts
    from trainables.models.loading import BaseName
    from trainables.models.sampling import with_adapter

    try:
        held = with_adapter(base, adapter)
    except ValueError as error:
        raise BadInput(f"{error}; --base says where the base is") from error
    if "nf4" not in BaseName.parse(base).options:
        held.model.float()
    rows = []
    for one in said:
        try:
            asked = parts(task, held.tokenizer, one.example, one.draft, one.answer)
            found = attributed(held.model, asked, held.eos, steps)
        except ValueError as error:
            raise BadInput(f"test question {one.item}: {error}") from error
        of = one.example
        what = {"item": one.item, "key": of.key, "kind": of.kind, "prompt": of.prompt, "draft": one.draft}
        what |= {"answer": of.answer, "given": one.answer}
        rows.append(what | asdict(found))
    return pd.DataFrame(rows)


def in_words(table: pd.DataFrame) -> list[str]:
    """A line per kind and one for all, and how far the sums are from what they should be."""
    groups: Iterable[tuple[Any, pd.DataFrame]] = table.groupby("kind", sort=False)
    lines = [_line(str(kind), own) for kind, own in groups]
    error, difference = table.error.abs(), table.difference.abs()
    return [
        *lines,
        *([_line("all", table)] if len(lines) > 1 else []),
        f"completeness: sums are off by {error.mean():.2g} nats on average ({error.max():.2g} at most), where the"
        f" log-odds are {difference.mean():.2g} from the baseline's; more --steps bring them closer",
    ]


def _line(name: str, own: pd.DataFrame) -> str:
    where = (
        f"{percent(own.prompt_share.mean())} on the prompt, {percent(own.conclusion_share.mean())} on the conclusion"
    )
    return (
        f"  {name}: {percent(own.draft_share.mean())} on the draft (95 %: {span(interval(own.draft_share.tolist()))}),"
        f" {where}; {percent(own.token_share.mean())} of the tokens are the draft's; {len(own)} questions"
    )
