"""By what should a search decide early: by scores, or by the likelihood of right answers?

    python benchmarks/ranking.py                    # the recordings in benchmarks/bank; `record.py` makes them

For each rung of a recording: how well what is known then ranks configurations, beside their score on the test split
after the last round. *score* and *likelihood* are those of the rung's round: the share of right answers, and the mean
log-probability of the right ones; *of 3*: the mean of the last three rounds. Numbers are rank correlations (Spearman's)
over all configurations that did not diverge. *kept*: how many of the ten best by test score are in the best third by
that signal, which is what ASHA lets go on. The last column is the correlation of the likelihood less that of the score,
both of three rounds, with a 95 % interval from a bootstrap over configurations.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import pyarrow.parquet
from scipy.stats import spearmanr

from benchmarks.curves import FORMAT
from sweeps.results.rungs import MEAN_OF, decided_at, first_rung
from sweeps.spec.sweep import Sweep

BEST, RESAMPLES = 10, 1000
SIGNALS = ("score", "score of 3", "likelihood", "likelihood of 3")


def signals(table: pyarrow.Table, rounds: int, rung: int) -> Mapping[str, np.ndarray]:
    """Return by name what is known of each configuration (C,) after a round."""
    answers = np.array(table["answers"].to_pylist()).reshape(len(table), rounds, -1).mean(2)
    likely = np.array(table["log_likelihoods"].to_pylist()).reshape(len(table), rounds, -1).mean(2)
    few = slice(max(0, rung - MEAN_OF), rung)
    known = (answers[:, rung - 1], answers[:, few].mean(1), likely[:, rung - 1], likely[:, few].mean(1))
    return dict(zip(SIGNALS, known, strict=True))


def correlation(seen: np.ndarray, test: np.ndarray) -> float:
    return float(spearmanr(seen, test).statistic)


def kept(seen: np.ndarray, test: np.ndarray) -> int:
    """Return how many of the best by test score are in the best third by what is seen."""
    third = np.argsort(-seen, kind="stable")[: len(seen) // Sweep.reduction_factor]
    return len({*third.tolist()} & {*np.argsort(-test, kind="stable")[:BEST].tolist()})


def difference(known: Mapping[str, np.ndarray], test: np.ndarray) -> str:
    """Return how much better likelihood correlates than the score, with its interval."""
    score, likely = known["score of 3"], known["likelihood of 3"]
    rng, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        own = rng.integers(len(test), size=len(test))
        found.append(correlation(likely[own], test[own]) - correlation(score[own], test[own]))
    low, high = np.percentile(found, (2.5, 97.5))
    return f"{correlation(likely, test) - correlation(score, test):+.2f} [{low:+.2f}, {high:+.2f}]"


def rows(file: Path) -> list[str]:
    """Return a row of the table for each rung of a recording, and none if it has no likelihoods."""
    table = pyarrow.parquet.read_table(file)
    facts = json.loads(table.schema.metadata[FORMAT.encode()])
    table = table.filter([not one for one in table["diverged"].to_pylist()])
    if not len(table["log_likelihoods"][0].as_py()):
        return []
    test, found = np.array(table["test"].to_pylist()).mean(1), []
    rungs = sorted({1, *decided_at(first_rung(facts["rounds"]), Sweep.reduction_factor, facts["rounds"])})
    for rung in rungs:
        known = signals(table, facts["rounds"], rung)
        cells = [f"{correlation(known[name], test):.2f}, {kept(known[name], test)}" for name in SIGNALS]
        found.append(
            f"| {file.stem}, round {rung} of {facts['rounds']} | {' | '.join(cells)} | {difference(known, test)} |"
        )
    return found


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--curves", type=Path, default=Path(__file__).parent / "bank", metavar="FOLDER")
    given = flags.parse_args(argv)
    files = sorted(given.curves.glob("*.parquet"))
    if not files:
        flags.error(f"{given.curves} has no recordings (*.parquet); make one with benchmarks/record.py")
    print(f"correlation with the test score, and how many of the {BEST} best are kept\n")
    print(f"| recording | {' | '.join(SIGNALS)} | likelihood less score |")
    print("|---|" + "---:|" * (len(SIGNALS) + 1))
    for file in files:
        print("\n".join(rows(file)), flush=True)


if __name__ == "__main__":
    main()
