"""A clone's place in the search: it takes one, keeps what it starts from, and is refused where none is left."""

from __future__ import annotations

import pytest
import yaml

from sweeps.commands.steering import clone
from sweeps.persistence.lock import driving
from sweeps.persistence.study import storage_of
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.results.tables import TRIALS, trials_parquet
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings, enqueue
from tests.support.toy_sweep import SWEEP as TOY
from trainables.bad_input import BadInput
from trainables.runtime.trial import ROUND_FILE, STATE_FILE


def test_a_clone_is_refused_where_all_places_are_taken_by_trials_or_by_clones(tmp_path):
    """Five of six have started, so there is room for one clone; a second would wait for ever. That one of the five was
    lost with a driver, and begun again, takes no place of its own."""
    checkpoint = tmp_path / "tune/t0/checkpoint_000000"
    checkpoint.mkdir(parents=True)
    (checkpoint / ROUND_FILE).write_text("1 5")
    (checkpoint / STATE_FILE).write_bytes(b"whole")
    search = OptunaSearcher(
        SearchSettings(TOY.joined_space(), "toy", seed=0, rounds=4, pairs=TOY.pair_names), storage_of(tmp_path)
    )
    params = [search.suggest(f"t{number}")["params"] for number in range(4)]
    search.suggest("lost")
    search.settle(alive=[f"t{number}" for number in range(4)])
    search.suggest("t4")
    rounds = [{"round": 1, "score": 0.5, "diverged": False, "seconds": 1.0}]
    record = TrialRecord("t0", 0, params[0], "running", TrialHistory(tuple(rounds)), 20)
    (tmp_path / TRIALS).write_bytes(trials_parquet([record]))
    (tmp_path / SWEEP_FILE).write_text(yaml.safe_dump({"sweep": TOY.to_dict()}))
    halves = {"b_round": ("", b"whole"), "c_state": ("2 5", b"wh"), "d_nothing_yet": ("2 5", None)}
    for name, (round_, state) in halves.items():
        half = tmp_path / f"tune/t0/checkpoint_00000{name}"
        half.mkdir()
        (half / ROUND_FILE).write_text(round_)
        if state is not None:
            (half / STATE_FILE).write_bytes(state)
    with driving(tmp_path):
        with pytest.raises(BadInput, match=r"quality=\{: '\{' is no value"):
            clone("0", ("quality={",), run=tmp_path)
        clone("0", ("quality=0.9",), run=tmp_path)
        with pytest.raises(BadInput, match=r"all 6 trials of .* are taken"):
            clone("0", ("quality=0.8",), run=tmp_path)
    begun = search.suggest("t5")["params"]
    assert (begun.fields["quality"], begun.start) == (0.9, "clones/trial-0-round-1.pt")
    assert (tmp_path / begun.start).read_bytes() == b"whole", "and not what Tune was still copying"


def test_a_clone_that_a_killed_driver_loses_is_a_clone_again(tmp_path):
    def opened():
        return OptunaSearcher(
            SearchSettings(TOY.joined_space(), "toy", seed=0, rounds=4, pairs=TOY.pair_names), storage_of(tmp_path)
        )

    search, begun = opened(), TrialParams("toy", {"quality": 0.25, "planted": "nan"}, "clones/trial-3-round-4.pt")
    enqueue(search.study, begun, TOY.pair_names)
    search.save(tmp_path / "state")  # the last snapshot before the clone starts
    search.suggest("t0")
    search = opened()
    search.restore(tmp_path / "state")
    assert search.suggest("t1") == {"params": begun}
