"""Completions of the same held-out prompts before training and after it, where trials learned from rewards."""

from __future__ import annotations

from dataclasses import dataclass

from sweeps.report.examples import LONG
from sweeps.report.plots_rl import rewarded
from sweeps.results.run_folder import Run

PROMPTS = 6


@dataclass(frozen=True)
class Answered:
    """A completion and its score in [0, 1]."""

    completion: str
    score: float


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt with its expected answer, and its completion before and after training."""

    kind: str
    prompt: str
    answer: str
    before: Answered
    after: Answered

    @property
    def folded(self) -> bool:
        return len(self.prompt) > LONG


@dataclass(frozen=True)
class BeforeAfter:
    """Prompts that were chosen without a look at their scores. `start`: what answered before; `name`: what after."""

    name: str
    start: str
    prompts: tuple[Prompt, ...]


def before_after(run: Run) -> BeforeAfter | None:
    """Return the first prompts of each kind in turn, as the best finalist that learned from rewards answers them with
    its first seed. None without one, or if what it was before its training was not asked."""
    learned = {one.trial_id for one in rewarded(run)}
    best = next((one for one in run.finals if one.trial_id in learned and one.completions), None)
    start = run.confirmation.before(best) if best else None
    if best is None or start is None or not start.completions:
        return None
    asked = run.questions[: min(len(best.completions[0]), len(start.completions[0]))]
    asked = asked.assign(turn=asked.groupby("kind").cumcount()).sort_values(["turn", "item"]).head(PROMPTS)
    prompts = [
        Prompt(
            str(row["kind"]),
            str(row["prompt"]),
            str(row["answer"]),
            *(Answered(one.completions[0][row["item"]], float(one.scores[0, row["item"]])) for one in (start, best)),
        )
        for _, row in asked.iterrows()
    ]
    return BeforeAfter(best.name, start.name, tuple(prompts))
