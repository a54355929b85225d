"""Write `report.html`: the results of a sweep on one page that opens without a network, from the sweep's folder."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeps.report.before_after import before_after
from sweeps.report.chart_style import render
from sweeps.report.examples import examples
from sweeps.report.headline import headline, state, trial_title
from sweeps.report.plots import figures
from sweeps.report.tables import cost, learner_comparison, provenance
from sweeps.results import pair_comparison, pareto, question_kinds, rungs
from sweeps.results.finals import left_out, of_earlier
from sweeps.results.finals import verdict as verdict_of_finals
from sweeps.results.leaderboard import percent, rank, span, status_words, verdict
from sweeps.results.run_folder import PLOTS, Run
from sweeps.results.statistics import Interval
from trainables.atomic import replace_file
from trainables.bad_input import BadInput

PAGE = "report.html"
TOP = 20  # rows of the leaderboard that are not folded


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95 % interval, as text and as positions on a scale that the rows of a table share."""

    value: float | None
    bounds: Interval | None
    ends: Interval

    @property
    def text(self) -> str:
        return percent(self.value)

    @property
    def span(self) -> str:
        return span(self.bounds)

    @property
    def scale(self) -> tuple[float, float, float] | None:
        """Return left end, width and score, in per cent of the scale."""
        if self.bounds is None or self.value is None:
            return None
        start, length = self.ends[0], self.ends[1] - self.ends[0] or 1.0
        low, high, at = (round(100 * (value - start) / length, 2) for value in (*self.bounds, self.value))
        return low, round(high - low, 2), at


def _ends(bounds: Iterable[Interval | None]) -> Interval:
    """Return the ends of a scale that contains all these intervals."""
    known = [one for one in bounds if one is not None]
    return min((low for low, _ in known), default=0.0), max((high for _, high in known), default=1.0)


def write_report(folder: Path) -> Path:
    """Write `report.html` and `plots/<name>.png` into the folder of a sweep, finished or not. Return the page's path.

    Raise BadInput for a folder that is not a sweep's.
    """
    run = Run.read(folder)
    shown = figures(run)
    if (folder / PLOTS).is_symlink():  # in a folder from somebody else: files elsewhere would be replaced
        raise BadInput(folder / PLOTS, "is a link, which no sweep makes", "remove it")
    (folder / PLOTS).mkdir(exist_ok=True)
    for plot in shown:
        replace_file(folder / PLOTS / f"{plot.name}.png", render(plot.figure, "png"))
    drawings = [
        {"name": plot.name, "title": plot.title, "caption": plot.caption, "data": _base64(render(plot.figure, "svg"))}
        for plot in shown
    ]
    loader = FileSystemLoader(Path(__file__).parent)
    # Prompts and completions are untrusted text, so everything is escaped.
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = pages.get_template("report.html.jinja").render(
        title=folder.resolve().name,
        headline=headline(run),
        state=state(run),
        finals=_finals(run),
        independent=run.confirmation.independent,
        finals_conclusions=[*verdict_of_finals(run.confirmation), *of_earlier(run.earlier_looks)] if run.finals else [],
        rows=_rows(run),
        top=TOP,
        search_conclusions=[*verdict(rank(run.records), run.end.get("baselines", {})), *_search_conclusions(run)],
        compared=learner_comparison(run),
        bases=(pair_comparison.HEAD, pair_comparison.table(run.confirmation)),
        kinds=(question_kinds.HEAD, question_kinds.table(run)),
        drawings=drawings,
        examples=examples(run),
        sampled=before_after(run),
        guards=run.facts.get("guards"),
        notes=[(one.number, "; ".join(one.notes)) for one in run.records if one.notes],
        cost=cost(run),
        provenance=provenance(run),
    )
    target = folder / PAGE
    replace_file(target, page.encode())
    return target


def _search_conclusions(run: Run) -> list[str]:
    """Return sentences on missing finalists, on a winner that ASHA had pruned, and on the Pareto front."""
    sweep = run.facts["sweep"]
    return [
        *left_out(run.finals, run.confirmation.lost),
        *(of_earlier(run.earlier_looks) if not run.finals else ()),
        *rungs.in_words(run.records, run.finals, sweep["rounds"]),
        *pareto.in_words(run.records, sweep.get("objectives", ["score"])),
    ]


def _base64(drawing: bytes) -> str:
    return base64.b64encode(drawing).decode()


def _rows(run: Run) -> list[dict[str, Any]]:
    """Return the rows of the search's leaderboard."""
    ranked = rank(run.records)
    ends = _ends(row.interval for row in ranked)
    return [
        {
            "rank": row.rank or "-",
            "trial": row.record.number,
            "score": Score(row.record.score, row.interval, ends),
            "rounds": row.record.rounds,
            "status": status_words(row.record),
            "differs": row.differs,
        }
        for row in ranked
    ]


def _finals(run: Run) -> list[dict[str, Any]]:
    """Return the rows of the finalists' table."""
    trials = {one.trial_id: one for one in run.records}
    bounds = run.confirmation.bounds()
    ends = _ends([*bounds.values()])
    return [
        {
            "name": trial_title(run, trials.get(one.trial_id or ""), one.name),
            "score": Score(one.score, bounds[one.name], ends),
            "seeds": ", ".join(f"{100 * value:.1f}" for value in one.scores.mean(1)) if len(one.scores) > 1 else "-",
            "searched": percent(one.searched),
        }
        for one in run.finals
    ]
