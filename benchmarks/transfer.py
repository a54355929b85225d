"""How many trials does `--like` save on a new base? A cold search against one that starts from another base's sweep.

    python benchmarks/transfer.py                       # 24 repetitions; makes three bases first, if they are not there
    python benchmarks/transfer.py --bases /tmp/bases --learner lora

Three bases of width 48, 64 and 96 are pre-trained on the spot, as `builtin:tiny` was but for two minutes at most. A
repetition is an ordered pair of them and a seed (of the questions, the training and the search). The earlier sweep on
the first base and the cold search on the second are the same: the product's own searcher, the space of
`sweeps/arena.py` (or of one of its learners), the defaults first. The warm search begins with what `like` takes from
the earlier sweep's folder. Every trial is trained (20 steps) and asked 600 questions; none is stopped early. Counted
are trials until a search reaches the target; one that never does counts with all of its own. A confirmed score is
that of a search's best trial so far, trained again with two other seeds and asked 600 test questions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.stats import bootstrap

from search_spaces import hybrid, lora, soft_prompt
from sweeps.persistence.provenance import describe
from sweeps.results.leaderboard import write_all
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import SWEEP_FILE, Run
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.spec.sweep import Sweep
from sweeps.spec.warm_start import like
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from trainables.builtin import pretrain, start, tokenizer
from trainables.core import Pair
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.models.loading import Base, load
from trainables.packed.host import Host
from trainables.packed.specs import Shape
from trainables.tasks.arena.task import ArenaTask

WIDTHS, LAYERS, STEPS = (48, 64, 96), 3, 1000  # of the bases, and of their pre-training
KINDS = ("comparison", "causal", "math", "logic")  # kinds of which such small bases learn something
CONFIGS = (LoraConfig(), SoftPromptConfig(), HybridConfig())
SPACES = {"lora": lora.SPACE, "soft_prompt": soft_prompt.SPACE, "hybrid": hybrid.SPACE}
ROUNDS, SEEDS = 1, 2  # rounds of a trial; seeds with which a best trial is confirmed


@dataclass
class Search:
    """One search on one base, a trial at a time."""

    sweep: Sweep
    searcher: OptunaSearcher
    records: list[TrialRecord] = field(default_factory=list)
    untouched: float = 0.0  # the score of the base before training
    untouched_test: float = 0.0
    confirmed: np.ndarray = field(default_factory=lambda: np.empty(0))  # after each trial, of the best one so far

    @property
    def scores(self) -> np.ndarray:
        return np.array([one.score for one in self.records])


def make_base(width: int, folder: Path) -> str:
    """Return the path of a base of this width in `folder`; pre-train it if it is not there."""
    path = folder / f"width-{width}"
    if not (path / "config.json").is_file():
        torch.manual_seed(width)
        vocabulary = tokenizer.build()
        base = start.untrained(vocabulary, width, LAYERS)
        pretrain.train(base, vocabulary, width, STEPS)
        pretrain.save(base, vocabulary, path)
    return str(path)


def sweep_on(base: str, learner: str, seed: int, trials: int) -> Sweep:
    task = ArenaTask(seed=seed, search_size=600, test_size=600, kinds=KINDS, max_new_tokens=6)
    pairs = tuple(Pair(one, task, base) for one in CONFIGS if learner in (one.name, "all"))
    spaces = {pair.learner.name: SPACES[pair.learner.name] for pair in pairs}
    return Sweep("transfer", pairs, spaces, num_samples=trials, rounds=ROUNDS, seed=seed)


def search(sweep: Sweep, first: Sequence[TrialParams], scratch: Path, luck: int) -> Search:
    """Return a new search. `luck` is the sampler's random seed, a different one for each search."""
    settings = SearchSettings(
        sweep.joined_space(), "transfer", 1000 * luck, ROUNDS, first=first, pairs=sweep.pair_names
    )
    return Search(sweep, OptunaSearcher(settings, f"sqlite:///{scratch}/{luck}.db"))


def run(searches: Sequence[Search], trials: int) -> None:
    """Run all searches on one base side by side, each in a seat of one host."""
    base = load(searches[0].sweep.pairs[0].base)
    host = Host(base, Shape(seats=len(searches), lanes=64, decode_lanes=256))
    for number in range(trials):
        asked, trial_id = {}, f"t{number}"
        for place, one in enumerate(searches):
            config = one.searcher.suggest(trial_id)
            assert isinstance(config, dict)
            params = config["params"]
            pair = one.sweep.resolve(params)
            learner = pair.learner.build(base, pair.task, one.sweep.seed)
            host.open(str(place), learner, one.sweep.seed)
            asked[str(place)] = (one, params, pair, learner)
        trained = host.run(dict.fromkeys(asked, "round"))
        judged = host.run(dict.fromkeys(asked, "evaluate"))
        for place, (one, params, _, _) in asked.items():
            diverged = not np.isfinite(trained[place].loss)
            score = 0.0 if diverged else judged[place].score
            result = {"training_iteration": ROUNDS, "score": score, "diverged": diverged}
            one.searcher.on_trial_complete(trial_id, result)
            row = {"round": ROUNDS, "score": score, "loss": trained[place].loss, "diverged": diverged}
            status = "diverged" if diverged else "finished"
            one.records.append(
                TrialRecord(
                    trial_id, number, params, status,
                    TrialHistory((row | {"time_s": 1.0, "seconds": 1.0, "at": 0.0},)), len(judged[place].items),
                )
            )  # fmt: skip
    for one, _, _, learner in asked.values():
        one.untouched = host.evaluate_untouched(learner).score
        one.untouched_test = host.evaluate_untouched(learner, "test").score
    confirm(host, base, searches)
    host.shut()


def confirm(host: Host, base: Base, searches: Sequence[Search]) -> None:
    """Train every trial that was the best so far again, with seeds that no search used; score it on the test split."""
    jobs = [
        (one, number, seed)
        for one in searches
        for number in np.flatnonzero(one.scores > np.maximum.accumulate([-1.0, *one.scores[:-1]]))
        for seed in range(100, 100 + SEEDS)
    ]
    for one in searches:
        one.confirmed = np.full((len(one.records), SEEDS), np.nan)
    while jobs:
        now, jobs = jobs[: len(searches)], jobs[len(searches) :]
        for place, (one, number, seed) in enumerate(now):
            pair = one.sweep.resolve(one.records[number].params)
            host.open(str(place), pair.learner.build(base, pair.task, seed), seed)
        host.run({str(place): "round" for place in range(len(now))})
        asked = host.run({str(place): "evaluate" for place in range(len(now))}, "test")
        for place, (one, number, seed) in enumerate(now):
            one.confirmed[number, seed - 100] = asked[str(place)].score
    for one in searches:
        one.confirmed = pd.Series(one.confirmed.mean(1)).ffill().to_numpy()


def written(done: Search, folder: Path) -> Run:
    """Write a search as the folder of a sweep, and read it."""
    folder.mkdir()
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(describe(done.sweep)))
    write_all(folder, done.records, baselines={}, rounds=ROUNDS)
    return Run.read(folder)


def reached(scores: np.ndarray, target: float) -> tuple[int, bool]:
    """Return the trials until the target is reached (all of them if it is not), and whether it is reached."""
    there = np.flatnonzero(scores >= target - 1e-12)
    return (int(there[0]) + 1, True) if there.size else (len(scores), False)


def saved(cold: np.ndarray, warm: np.ndarray) -> float:
    return 1 - float(warm.sum() / cold.sum())


def row(name: str, cold: Sequence[tuple[int, bool]], warm: Sequence[tuple[int, bool]]) -> str:
    a, b = np.array([n for n, _ in cold]), np.array([n for n, _ in warm])
    bounds = bootstrap((a, b), saved, paired=True, vectorized=False, n_resamples=5000, rng=0, method="percentile")
    low, high = bounds.confidence_interval
    cells = [name, f"{np.median(a):.1f}", f"{a.mean():.1f}", f"{np.median(b):.1f}", f"{b.mean():.1f}"]
    cells += [f"{np.mean([ok for _, ok in warm]):.0%}", f"{saved(a, b):.0%} ({low:.0%} to {high:.0%})"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--bases", type=Path, default=Path("runs/transfer-bases"), help="where the bases are kept")
    flags.add_argument("--learner", choices=[*SPACES, "all"], default="all")
    flags.add_argument("--trials", type=int, default=24, help="of each search")
    flags.add_argument("--seeds", type=int, default=4, help="of each of the six ordered pairs of bases")
    given = flags.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    bases = {width: make_base(width, given.bases) for width in WIDTHS}
    made, luck = time.monotonic() - started, iter(range(1, 10**6))
    cold: dict[tuple[int, int], Search] = {}
    warm: dict[tuple[int, int, int], Search] = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for width, base in bases.items():
            for seed in range(given.seeds):
                sweep = sweep_on(base, given.learner, seed, given.trials)
                cold[width, seed] = search(sweep, sweep.defaults(), scratch, next(luck))
            run([cold[width, seed] for seed in range(given.seeds)], given.trials)
        runs = {key: written(done, scratch / f"{key[0]}-{key[1]}") for key, done in cold.items()}
        for new in bases:
            pairs = [
                (old, new, seed) for old, to in permutations(WIDTHS, 2) if to == new for seed in range(given.seeds)
            ]
            for key in pairs:
                sweep, first = like(cold[new, key[2]].sweep, runs[key[0], key[2]])
                warm[key] = search(replace(sweep, name="warm"), first, scratch, next(luck))
            run([warm[key] for key in pairs], given.trials)
    report(given, cold, warm)
    print(f"\n{made / 60:.1f} minutes for the bases, {(time.monotonic() - started - made) / 60:.1f} for the searches")


def report(
    given: argparse.Namespace,
    cold: Mapping[tuple[int, int], Search],
    warm: Mapping[tuple[int, int, int], Search],
) -> None:
    print(f"{given.learner}, {len(warm)} repetitions, {given.trials} trials in each search\n")
    for width in WIDTHS:
        own = [one for (w, _), one in cold.items() if w == width]
        before, best = np.mean([one.untouched for one in own]), np.mean([one.scores.max() for one in own])
        print(f"- width {width}: untouched {before:.1%}, best of a cold search {best:.1%} (means over seeds)")
    print("\n| target | cold: median | mean | --like: median | mean | reached | trials saved (95 % interval) |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, confirmed in (("best score", False), ("confirmed score", True)):
        for share in (1.0, 0.95):
            counts: list[list[tuple[int, bool]]] = [[], []]
            for (_, new, seed), one in warm.items():
                other = cold[new, seed]
                before = other.untouched_test if confirmed else other.untouched
                had = other.confirmed[-1] if confirmed else other.scores.max()
                for found, of in zip(counts, (other, one), strict=True):
                    found.append(reached(of.confirmed if confirmed else of.scores, before + share * (had - before)))
            title = f"the cold search's {name}" + ("" if share == 1 else f", {share:.0%} of its gain")
            print(row(title, *counts), flush=True)


if __name__ == "__main__":
    main()
