"""The figure of parameter importance: which axes decide about a good score, beside what luck alone would show.

All trials with a score count, pruned ones with the best that they had: without them, only what was good is compared.
"""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from sweeps.report.chart_style import ACCENT, INK, PALE, legend_above, sheet, shortened
from sweeps.report.searched_axes import AxisGroup

ENOUGH = 8  # trials: with fewer, importance is noise
TOP = 0.25  # of the trials: what an axis is important for is to be among them
SHUFFLES = 40


def importance(group: AxisGroup) -> Figure | None:
    """How much of being in the top quarter each axis explains (PED-ANOVA: Watanabe et al. 2023), and what chance would.

    The grey bar is what an axis reaches, in 19 of 20 cases, with the same configurations and shuffled scores: shorter
    bars say nothing. Both are in parts of what all axes of this sweep explain: of shuffled scores they explain little
    together, and a share of that would be compared with a share of much. Nothing for a single axis, for few trials, or
    where there is nothing to explain.
    """
    scores = np.array([one.score for one in group.trials])
    if len(scores) < ENOUGH or len(group.axes) < 2 or np.ptp(scores) == 0:
        return None
    rng = np.random.default_rng(0)
    study = _study(group)
    found = _explained(study, scores)
    total = sum(found.values())
    if total == 0:
        return None
    luck = [_explained(study, rng.permutation(scores)) for _ in range(SHUFFLES)]
    names = sorted(found, key=lambda name: found[name])
    bars = [found[name] / total for name in names]
    chance = [float(np.quantile([one.get(name, 0.0) for one in luck], 0.95)) / total for name in names]
    figure, (axes,) = sheet(1.3 + 0.36 * len(names))
    axes.barh(names, chance, height=0.72, color=PALE, label="luck stays below this in 19 of 20 cases")
    axes.barh(names, bars, height=0.34, color=ACCENT, label="this sweep")
    axes.set_yticks(range(len(names)), [shortened(name, 30) for name in names], color=INK)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
    axes.set_xlabel(f"importance, % of the total (n={len(scores)} trials)")
    axes.set_ylabel("axis")
    axes.grid(axis="y", visible=False)
    legend_above(figure, axes)
    return figure


def _study(group: AxisGroup) -> optuna.Study:
    """The trials as Optuna's, in memory; an axis that was not active in a trial is not among its parameters."""
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    optuna.logging.set_verbosity(loud)
    for one in group.trials:
        values = dict(group.values[one.trial_id])
        own = {axis: group.axes[axis] for axis in values}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=own, value=one.score))
    return study


def _explained(study: optuna.Study, scores: np.ndarray) -> dict[str, float]:
    """Importances in PED-ANOVA's own unit, for these scores in the order of the trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low targets are taken as good: hence the minus
        return get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=TOP),
            target=lambda one: -float(scores[one.number]),
            normalize=False,
        )
