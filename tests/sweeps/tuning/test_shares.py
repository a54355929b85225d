"""Which pair of a sweep of several bases gets the next trial."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from optuna.distributions import CategoricalDistribution

from search_spaces.space import Space
from sweeps.persistence.study import storage_of
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings

PAIRS = ["lora@small", "lora@large"]
SPACE = Space({"learner": CategoricalDistribution(PAIRS)})


def searcher(folder: Path, seats: int | None) -> OptunaSearcher:
    settings = SearchSettings(
        SPACE, "s", seed=0, rounds=1, sampler="random", pairs=PAIRS, shared=True, num_samples=8, seats=seats
    )
    return OptunaSearcher(settings, storage_of(folder))


def begun(search: OptunaSearcher, trial: str) -> str:
    config = search.suggest(trial)
    assert isinstance(config, dict)
    return config["params"].pair


def end(search: OptunaSearcher, trial: str) -> None:
    search.on_trial_complete(trial, {"training_iteration": 1, "score": 0.5, "done": True})


def test_a_base_with_a_free_seat_gets_the_next_trial_until_its_share_is_used_up(tmp_path: Path) -> None:
    """The trials of the small base end at once, those of the large one never: its two seats stay taken."""
    search = searcher(tmp_path, seats=2)
    pairs = []
    for number in range(6):
        pairs.append(begun(search, str(number)))
        if pairs[-1] == "lora@small":
            end(search, str(number))
    assert Counter(pairs) == {"lora@small": 4, "lora@large": 2}
    assert begun(search, "6") == "lora@large", "the small base has had its half"


def test_without_shared_bases_the_pair_with_the_fewest_trials_is_next(tmp_path: Path) -> None:
    search = searcher(tmp_path, seats=None)
    assert Counter(begun(search, str(number)) for number in range(6)) == dict.fromkeys(PAIRS, 3)
