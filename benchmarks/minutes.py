"""Does a sweep with `--minutes` show what it announces? Finalists are simulated, with a difference that is planted.

    python benchmarks/minutes.py                      # some minutes on one core
    python benchmarks/minutes.py --sweeps 50 --seed-spread 0.01 0.04

Each row is a design that `sweeps/tuning/design.py` makes from measured costs (seconds of a round's training and of a
question, on two cores: of LoRA and two more learners on `builtin:tiny`, of two on SmolLM2, and of two that train a
network for each ARC task). The best finalist is as much better than all the others as the design announces. 200 sweeps
are simulated, with the code that plans the stages of finalists and compares them (`results/decision.py`,
`results/comparison.py`), until a winner is told apart or the time of the finalists is used up. `found`: in how many of
them the best was told apart from all others; 70 to 90 % keep the promise. `false`: in how many another finalist was
called the best, where none is: it should be below 5 %.

Answers are simulated as the design assumes: whether one is right depends on the question, the configuration and the
seed. `--seed-spread` says how much the scores of seeds really differ (standard deviation); the design assumes 0.02, and
none where each question has a model of its own.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
from scipy.stats import norm

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP
from sweeps.results.allocation import PRIOR_SEED, Sizes
from sweeps.results.allocation import Costs as FinalistCosts
from sweeps.results.comparison import LEVEL
from sweeps.results.decision import RESERVE, Budget, Progress, next_stage
from sweeps.results.power import OF_CONFIGURATION, OF_QUESTION
from sweeps.spec.sweep import Sweep
from sweeps.tuning.confirmation import MOST_SEEDS
from sweeps.tuning.design import Costs, Design, design

TINY = Costs(train_s=1.2, ask_s=0.0055, lanes=2, test_questions=2000)
SMOLLM2 = Costs(train_s=20.0, ask_s=0.2, lanes=2, test_questions=2000)
NETWORKS = Costs(0.0, 0.25, lanes=2, test_questions=191, per_example=True, independent=True, test_s=0.45)
REAL = replace(SWEEP, pairs=SWEEP.pairs[:2], num_samples=4)
ALONE = replace(SWEEP, pairs=SWEEP.pairs[:1])
DESIGNS: Mapping[str, tuple[Sweep, Costs, float]] = {
    "arena, 3 minutes": (SWEEP, TINY, 3),
    "arena, 8 minutes": (SWEEP, TINY, 8),
    "one learner, 5 minutes": (ALONE, TINY, 5),
    "SmolLM2, 20 minutes": (REAL, SMOLLM2, 20),
    "SmolLM2, 60 minutes": (REAL, SMOLLM2, 60),
    "ARC, 9 minutes": (ARC, NETWORKS, 9),
}


@dataclass
class World:
    """Answers of finalists to questions, drawn once each: `scores` has those of the first seeds and questions."""

    means: Mapping[str, float]  # by finalist, in (0, 1)
    questions: int
    seed_spread: float
    rng: np.random.Generator
    _known: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shared = self.rng.normal(size=self.questions)
        self._own = {name: self.rng.normal(size=self.questions) for name in self.means}

    def scores(self, sizes: Sizes) -> dict[str, np.ndarray]:
        """Return scores (S, N) by finalist."""
        found = {}
        for name, (seeds, asked) in sizes.items():
            found[name] = np.stack([self._answers(name, seed)[:asked] for seed in range(seeds)])
        return found

    def _answers(self, name: str, seed: int) -> np.ndarray:
        if (name, seed) not in self._known:
            mean = np.clip(self.means[name] + self.seed_spread * self.rng.normal(), 0.001, 0.999)
            rest = math.sqrt(1 - OF_QUESTION - OF_CONFIGURATION) * self.rng.normal(size=self.questions)
            hardness = math.sqrt(OF_QUESTION) * self._shared + math.sqrt(OF_CONFIGURATION) * self._own[name]
            self._known[name, seed] = (hardness + rest < norm.ppf(mean)).astype(float)
        return self._known[name, seed]


def winner(own: Design, costs: Costs, difference: float, seed_spread: float, seed: int) -> str:
    """Simulate the finalists of a sweep, in which `best` is so much better. Return who is told apart from all others;
    empty if nobody is."""
    names = ["best", *(f"other {place}" for place in range(1, own.finalists))]
    means = {name: 0.5 + (difference if name == "best" else -difference) / 2 for name in names}
    world = World(means, costs.test_questions, seed_spread, np.random.default_rng(seed))
    alone = names if costs.independent else ()
    train_s, ask_s = costs.finalist(own.rounds)
    prices = FinalistCosts(
        dict.fromkeys(names, train_s),
        dict.fromkeys(names, ask_s),
        dict.fromkeys(names, MOST_SEEDS),
        costs.test_questions,
    )
    rate = LEVEL if costs.independent else LEVEL * (1 - RESERVE)  # as `confirm` does
    budget, sizes, looks = Budget(own.finalists_s, rate), dict.fromkeys(names, (1, own.questions)), []
    while True:
        seconds = sum(seeds * (train_s + asked * ask_s) for seeds, asked in sizes.values())
        now = Progress(world.scores(sizes), looks, seconds, untrained=alone, independent=costs.independent)
        if look := now.look(budget):
            looks.append(look)
        if (more := next_stage(now, budget, prices)) is None:
            break
        sizes = more
    comparisons = now.comparisons()
    return comparisons[0].first if looks and all(one.alone < LEVEL for one in comparisons) else ""


def main(argv: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--sweeps", type=int, default=200, help="that are simulated for each row")
    flags.add_argument(
        "--seed-spread", type=float, nargs="+", default=[PRIOR_SEED], help="standard deviations of a score"
    )
    flags.add_argument("--only", nargs="+", choices=DESIGNS, metavar="DESIGN", default=list(DESIGNS))
    given = flags.parse_args(argv)
    print("| design | trials x rounds | finalists x trainings | announced | seeds differ by | found | false |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in given.only:
        sweep, costs, minutes = DESIGNS[name]
        own = design(replace(sweep, minutes=minutes), costs, 60 * minutes)
        for spread in [0.0] if costs.independent else given.seed_spread:
            planted = [winner(own, costs, own.shown, spread, seed) for seed in range(given.sweeps)]
            alike = [winner(own, costs, 0.0, spread, seed) for seed in range(given.sweeps)]
            print(
                f"| {name} | {own.trials} x {own.rounds} | {own.finalists} x {own.seeds:.1f} | {100 * own.shown:.1f}"
                f" | {100 * spread:g} | {planted.count('best') / len(planted):.0%}"
                f" | {sum(map(bool, alike)) / len(alike):.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
