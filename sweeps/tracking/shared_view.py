"""The view of a sweep on MLflow's pages: which runs, columns and charts they show, and in which order.

MLflow's Share button keeps such a view as JSON in an experiment tag, and `?viewStateShareKey=KEY` opens it. Its names
are those of MLflow's pages (`ExperimentPageUIState`, `ExperimentPageSearchFacetsState`; mlflow/server/js) and no public
interface: `KNOWN` says for which versions they are known, and others get a plain address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

KNOWN = ("3.17.",)  # the beginnings of MLflow's versions; pyproject.toml keeps others out
STATE_TAG = "mlflow.sharedViewState."  # and the key: a tag of the experiment
NAME_TAG, KEY_TAG = "sweep", "espalier.view"  # of every run of a sweep: its name, and the key of its view
# Columns from left to right, and their widths in pixels.
COLUMNS = {
    "metrics.`best_score`": 80,
    "tags.`interval`": 85,
    "tags.`test_score`": 80,
    "tags.`test_interval`": 95,
    "tags.`ended`": 75,
    "tags.`differs`": 380,
    "tags.`learner`": 95,
    "tags.`base`": 95,
}
FIRST = {"attributes.`Run Name`": 190, "runDateAndNestInfo": 125}  # on the left at all times: name, end and time


def is_known(version: str) -> bool:
    """Return whether the pages of this version of MLflow open the view."""
    return version.startswith(KNOWN)


def view_of(key: str, axes: Sequence[str] = ()) -> dict[str, Any]:
    """Return the view of the sweep whose runs have the tag `espalier.view` with this key, best score first.

    Its runs are a group: MLflow would otherwise show no parents where runs are sorted by a metric. `axes` are the
    parameters that get a chart of parallel coordinates.
    """
    charts = [_chart("LINE", metricKey="score", selectedMetricKeys=["score"], **AS_BY_DEFAULT)]
    if axes:
        charts.append(_chart("PARALLEL", selectedParams=[*axes], selectedMetrics=["best_score"], showAllRuns=True))
    sections = [_section("sweep", "Sweep", columns=2), _section("metrics", "Model metrics", isGenerated=True)]
    return {
        "searchFilter": f"tags.`{KEY_TAG}` = '{key}'",
        "orderByKey": "metrics.`best_score`",
        "orderByAsc": False,
        "groupBy": {"aggregateFunction": "max", "groupByKeys": [{"mode": "tag", "groupByData": NAME_TAG}]},
        "useGroupedValuesInCharts": False,
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": [*COLUMNS],
        "columnOrder": [*FIRST, *COLUMNS],
        "columnWidths": FIRST | COLUMNS,
        "compareRunCharts": charts,
        "compareRunSections": sections,
    }


AS_BY_DEFAULT: dict[str, Any] = {  # what MLflow's own charts of lines begin with
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "lineSmoothness": 0,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def _chart(kind: str, **settings: Any) -> dict[str, Any]:
    own = {"type": kind, "uuid": kind.lower(), "metricSectionId": "sweep", "isGenerated": False, "deleted": False}
    return own | settings


def _section(name: str, title: str, **settings: Any) -> dict[str, Any]:
    own = {"uuid": name, "name": title, "display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return own | settings
