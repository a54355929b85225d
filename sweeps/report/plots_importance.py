"""The chart of hyperparameter importance, beside the importance that chance alone would show.

It uses all trials with a score, and the best score of pruned ones. Without pruned trials, only good ones are compared.
"""

from __future__ import annotations

import warnings

import altair as alt
import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from sweeps.report.chart_style import ACCENT, PALE, colours, rows, rows_axis, rows_height
from sweeps.report.plots_trials import Panels
from sweeps.report.searched_axes import AxisGroup

ENOUGH = 8  # trials; with fewer, importance is noise
TOP = 0.25  # share of the trials that count as good
SHUFFLES = 40


def importance(group: AxisGroup) -> Panels:
    """Draw how much each axis decides whether a trial is in the top quarter (PED-ANOVA: Watanabe et al. 2023).

    The grey bar is the 95 % quantile of an axis' importance with the same configurations and shuffled scores. A shorter
    green bar is no evidence. Both are divided by the total importance of this sweep's axes. Dividing shuffled
    importances by their own, much smaller total would make them look large. Nothing for a single axis, for fewer than
    `ENOUGH` trials, or if all importances are 0.
    """
    scores = np.array([one.score for one in group.trials])
    if len(scores) < ENOUGH or len(group.axes) < 2 or np.ptp(scores) == 0:
        return {}
    rng = np.random.default_rng(0)
    study = _study(group)
    found = _ped_anova(study, scores)
    total = sum(found.values())
    if total == 0:
        return {}
    by_chance = [_ped_anova(study, rng.permutation(scores)) for _ in range(SHUFFLES)]
    names = sorted(found, key=lambda name: -found[name])
    own, luck = "this sweep", "chance (95 % quantile)"
    bars = [{"name": name, "share": round(100 * found[name] / total, 2), "group": own} for name in names]
    for name in names:
        chance = float(np.quantile([one.get(name, 0.0) for one in by_chance], 0.95)) / total
        bars.append({"name": name, "share": round(100 * chance, 2), "group": luck})
    colour = colours([(luck, PALE, ""), (own, ACCENT, "")])
    base = alt.Chart().encode(alt.X("share:Q", title=f"importance, % of the total ({len(scores)} trials)"))
    base = base.encode(
        rows_axis(names), colour, tooltip=["name:N", alt.Tooltip("share:Q", title="importance, %"), "group:N"]
    )
    wide, thin = (
        base.transform_filter(f"datum.group === '{group}'").mark_bar(height=height)
        for group, height in ((luck, 22), (own, 11))
    )
    return {"": alt.layer(wide, thin, data=rows(bars)).properties(height=rows_height(names, 32))}


def _study(group: AxisGroup) -> optuna.Study:
    """Return the trials as an Optuna study in memory. A trial's parameters are the axes that were active in it."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    optuna.logging.set_verbosity(verbosity)
    for one in group.trials:
        values = dict(group.values[one.trial_id])
        own = {axis: group.axes[axis] for axis in values}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=own, value=one.score))
    return study


def _ped_anova(study: optuna.Study, scores: np.ndarray) -> dict[str, float]:
    """Return the unnormalised PED-ANOVA importances for these scores, which are in the order of the trials."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that low targets are good; the minus sign makes it so
        return get_param_importances(
            study,
            evaluator=PedAnovaImportanceEvaluator(target_quantile=TOP),
            target=lambda one: -float(scores[one.number]),
            normalize=False,
        )
