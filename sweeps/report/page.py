"""The page of a sweep, from its folder: `report.html`, which opens without a network, and what `espalier ui` serves."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sweeps.report.before_after import before_after
from sweeps.report.chart_style import DARK, LIGHT, picture, whole_spec
from sweeps.report.examples import examples
from sweeps.report.headline import headline, state, trial_title
from sweeps.report.plots import Plot, plots
from sweeps.report.tables import cost, learner_comparison, provenance
from sweeps.report.trial_facts import trial_facts
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


@dataclass(frozen=True)
class Live:
    """What a page has that is served: the address of the list of sweeps, and of MLflow, if it runs. `tag` names the
    state of the sweep's folder. `acts`: the sweep runs, so that its trials can be stopped and cloned."""

    home: str
    tag: str
    mlflow: str = ""
    acts: bool = False


def write_report(folder: Path) -> Path:
    """Write `report.html` and `plots/<name>.png` into the folder of a sweep, finished or not. Return the page's path.

    Raise BadInput for a folder that is not a sweep's.
    """
    run = Run.read(folder)
    shown = plots(run)
    if (folder / PLOTS).is_symlink():  # in a folder from somebody else: files elsewhere would be replaced
        raise BadInput(folder / PLOTS, "is a link, which no sweep makes", "remove it")
    (folder / PLOTS).mkdir(exist_ok=True)
    for plot in shown:
        replace_file(folder / PLOTS / f"{plot.name}.png", picture(plot.panels))
    target = folder / PAGE
    replace_file(target, page(run, shown).encode())
    return target


def page(run: Run, shown: Sequence[Plot], live: Live | None = None) -> str:
    """Return the page of a sweep. Only one that is served asks for anything, and only its own server."""
    scripts = [own_script()] if live else [vega(), own_script()]
    return (
        pages()
        .get_template("report.html.jinja")
        .render(
            live=live,
            policy=policy(scripts, served=live is not None),
            scripts=scripts,
            light=LIGHT,
            dark=DARK,
            style=whole_spec({}),
            trials=trial_facts(run),
            title=run.folder.resolve().name,
            headline=headline(run),
            state=state(run),
            finals=_finals(run),
            independent=run.confirmation.independent,
            finals_conclusions=[*verdict_of_finals(run.confirmation), *of_earlier(run.earlier_looks)]
            if run.finals
            else [],
            rows=_rows(run),
            top=TOP,
            search_conclusions=[*verdict(rank(run.records), run.end.get("baselines", {})), *_search_conclusions(run)],
            compared=learner_comparison(run),
            bases=(pair_comparison.HEAD, pair_comparison.table(run.confirmation)),
            kinds=(question_kinds.HEAD, question_kinds.table(run)),
            drawings=shown,
            examples=examples(run),
            sampled=before_after(run),
            guards=run.facts.get("guards"),
            notes=[(one.number, "; ".join(one.notes)) for one in run.records if one.notes],
            cost=cost(run),
            provenance=provenance(run),
        )
    )


def pages() -> Environment:
    """Return the templates. Prompts and completions are untrusted text, so everything is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@functools.cache
def vega() -> str:
    """Return the JavaScript of Vega, Vega-Lite and vega-embed, which draws the plots."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


@functools.cache
def own_script() -> str:
    return (Path(__file__).parent / "report.js").read_text()


def policy(scripts: Sequence[str], served: bool) -> str:
    """Return the page's Content-Security-Policy: no script but these, and no address but the server's own."""
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts]
    own = ["'self'"] if served else []
    rules = {"default-src": ["'none'"], "style-src": ["'unsafe-inline'"], "img-src": ["data:"]}
    rules |= {"script-src": [*own, *hashes], "connect-src": own or ["'none'"], "base-uri": ["'none'"]}
    return "; ".join(" ".join([name, *values]) for name, values in (rules | {"form-action": ["'none'"]}).items())


def _search_conclusions(run: Run) -> list[str]:
    """Return sentences on missing finalists, on a winner that ASHA had pruned, and on the Pareto front."""
    sweep = run.facts["sweep"]
    return [
        *left_out(run.finals, run.confirmation.lost),
        *(of_earlier(run.earlier_looks) if not run.finals else ()),
        *rungs.in_words(run.records, run.finals, sweep["rounds"]),
        *pareto.in_words(run.records, sweep.get("objectives", ["score"])),
    ]


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
            "trial": trials[one.trial_id].number if one.trial_id in trials else None,
            "score": Score(one.score, bounds[one.name], ends),
            "seeds": ", ".join(f"{100 * value:.1f}" for value in one.scores.mean(1)) if len(one.scores) > 1 else "-",
            "searched": percent(one.searched),
        }
        for one in run.finals
    ]
