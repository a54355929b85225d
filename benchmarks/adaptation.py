"""The gain of adaptation on `builtin:tiny`: best configuration of each learner, three seeds, 500 test questions.

    python benchmarks/adaptation.py              # runs the default arena sweep first (about four minutes on two cores)
    python benchmarks/adaptation.py runs/arena   # takes an arena sweep that is there

Configurations are chosen by the sweep on the search split and trained for its whole budget of rounds; the test split is
seen here and only here. A gain has two parts: answer format (answers that the untouched base gave in another format)
and skill (the rest). The hybrid is compared with LoRA question by question.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.stats import bootstrap

from sweeps.arena import SWEEP
from sweeps.results.statistics import interval
from sweeps.results.trial_params import TrialParams
from trainables.core import Pair, Task
from trainables.models.loading import load
from trainables.models.tokenization import encode_row
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.runtime.trial import open_learner

SEEDS = (1, 2, 3)  # the sweep used 0
TARGETS = {"lora": 25.0, "soft_prompt": 8.0}  # points over the untouched base; hybrid: at least LoRA's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="an arena sweep's folder; none: the default sweep runs first")
    given = parser.parse_args().run
    if given and not (given / "trials.parquet").is_file():
        parser.error(f"{given} is not a sweep's folder: no trials.parquet in it; name another, or none")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given or default_sweep(Path(scratch))
        facts = yaml.safe_load((folder / "sweep.yaml").read_text(encoding="utf-8"))
        chosen = winners(folder)
    task, base = SWEEP.pairs[0].task, load(SWEEP.pairs[0].base)
    learner = SWEEP.pairs[0].learner.build(base, task, 0)
    untouched = Host(base).evaluate_untouched(learner, "test").flat()
    before = test_loss(Host(base), task, None)
    low, high = interval(untouched["items"])
    print(f"sweep {facts['sweep']['name']}: {facts['sweep']['num_samples']} trials, commit {facts['commit']}")
    print(f"untouched: strict {untouched['score']:.1%} [{low:.1%}, {high:.1%}], lenient {untouched['lenient']:.1%},")
    print(
        f"  truncated {untouched['truncated']:.1%}, unparsed {untouched['unparsed']:.1%}, loss {before:.3f} nats/token"
    )
    print("\nlearner      parameters  test score by seed     mean   gain  format  skill  target  loss after / before")
    gains: dict[str, float] = {}
    items: dict[str, np.ndarray] = {}
    for name, (pair, rounds) in chosen.items():
        runs = [train(pair, rounds, seed) for seed in SEEDS]
        scores, losses = [statistics.mean(answers) for answers, _, _ in runs], [loss for _, loss, _ in runs]
        items[name], parameters = np.array([answers for answers, _, _ in runs]).mean(0), runs[0][2]
        mean = statistics.mean(scores)
        gains[name] = gain = 100 * (mean - untouched["score"])
        form = min(gain, 100 * max(0.0, untouched["lenient"] - untouched["score"]))
        target = f"{TARGETS[name]:+.0f}" if name in TARGETS else f"{gains.get('lora', 0):+.1f}"
        by_seed = " ".join(f"{100 * s:5.1f}" for s in scores)
        parts = f"{gain:+5.1f}  {form:+6.1f}  {gain - form:+5.1f}  {target:>6}"
        loss = statistics.mean(losses)
        print(
            f"{name:12} {parameters:>10,}  {by_seed:22} {100 * mean:4.1f}  {parts}  {loss:.3f} / {before:.3f}", end=""
        )
        print(f" = {loss / before:.2f}")
    if {"lora", "hybrid"} <= items.keys():
        low, high = paired(items["hybrid"] - items["lora"])
        print(f"hybrid - lora: {gains['hybrid'] - gains['lora']:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}")
    for name, (pair, rounds) in chosen.items():
        print(f"{name}: {rounds} rounds of {pair.learner}")


def paired(differences: np.ndarray) -> tuple[float, float]:
    """95 % interval, in points, of a mean over questions: bootstrap of questions, each with all its seeds."""
    found = bootstrap((differences,), np.mean, n_resamples=5000, rng=0, method="percentile").confidence_interval
    return 100 * found.low, 100 * found.high


def default_sweep(scratch: Path) -> Path:
    script = Path(__file__).resolve().parents[1] / "sweeps" / "arena.py"
    subprocess.run([sys.executable, str(script), "--storage-path", str(scratch), "--name", "arena"], check=True)
    return scratch / "arena"


def winners(folder: Path) -> dict[str, tuple[Pair, int]]:
    """Return, per learner, the configuration with the best score of any round, and the rounds it is trained for."""
    table = pd.read_parquet(folder / "trials.parquet")
    table = table[~table["status"].isin(["diverged", "failed"])]
    chosen = {}
    for pair in SWEEP.pairs:
        rows = table[table["learner"] == pair.learner.name].sort_values(["score", "number"], ascending=[False, True])
        best = rows.iloc[0]
        params = TrialParams.from_flat(yaml.safe_load(best["params"]), pair.learner.name)
        chosen[pair.learner.name] = (SWEEP.resolve(params), SWEEP.rounds)
    return chosen


def train(pair: Pair, rounds: int, seed: int) -> tuple[list[float], float, int]:
    """Train with another seed. Return the score of each test question, mean test loss, trainable parameters."""
    learner = open_learner(pair, seed)
    assert isinstance(learner, Solo)
    for _ in range(rounds):
        trained = learner.round()
    items = [*learner.evaluate("test").items]
    loss = test_loss(learner.host, pair.task, "solo")
    learner.close()
    return items, loss, trained.trainable_parameters


def test_loss(host: Host, task: Task, trial_id: str | None) -> float:
    """Return the nats per answer token on the test split, with a trial's adapter or the untouched base."""
    rows = [encode_row(host.base.tokenizer, example) for example in task.test()]
    return -torch.cat(host.logprobs(rows, trial_id)).mean().item()


if __name__ == "__main__":
    main()
