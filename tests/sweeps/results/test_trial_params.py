"""A trial's parameters: how they are encoded as axes, and read from the tables of this version and of earlier ones."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from sweeps.results.leaderboard import write_all
from sweeps.results.records import TrialRecord
from sweeps.results.run_folder import Run
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from tests.support.facts_kit import least_facts

CLONE = "clones/trial-0-round-3.pt"


@pytest.mark.parametrize(
    ("params", "learners", "axes"),
    [
        (TrialParams("lora", {"r": 8}), ["lora"], {"r": 8}),
        (TrialParams("lora", {"r": 8}, CLONE), ["lora"], {"r": 8, "start_from": CLONE}),
        (TrialParams("lora", {"r": 8}), ["lora", "dora"], {"learner": "lora", "lora.r": 8}),
        (
            TrialParams("dora", {"r": 8}, CLONE),
            ["lora", "dora"],
            {"learner": "dora", "dora.r": 8, "start_from": CLONE},
        ),
        (TrialParams("percell", {}), ["lora", "percell"], {"learner": "percell"}),
    ],
)
def test_axes_have_a_prefix_only_where_there_are_several_learners(
    params: TrialParams, learners: list[str], axes: dict
) -> None:
    assert list(params.flat(learners).items()) == list(axes.items())
    assert TrialParams.from_flat(axes, learners[0]) == params


def test_a_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Its `params` are JSON by names of axes: plain for a single learner, with prefixes for several."""
    rows = []
    known = [
        ("lora", {"learner": "lora", "lora.r": 8, "lora.learning_rate": 0.01}),
        ("soft_prompt", {"learner": "soft_prompt", "soft_prompt.num_virtual_tokens": 4, "start_from": CLONE}),
        ("lora", {"r": 16, "learning_rate": 0.02}),
    ]
    for number, (learner, axes) in enumerate(known):
        fixed = {"trial_id": f"t{number}", "number": number, "learner": learner, "status": "finished", "notes": ""}
        fixed |= {"round": 1, "score": 0.5, "loss": 1.0, "seconds": 2.0, "round_seconds": 2.0, "at": 1.0, "n_items": 4}
        fixed |= {"params": json.dumps(axes), "items": [1.0, 1.0, 0.0, 0.0], "clusters": None, "diverged": False}
        rows.append(fixed | {f"params_{axis}": str(value) for axis, value in axes.items()})
    pd.DataFrame(rows).to_parquet(tmp_path / "trials.parquet")
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
    assert [one.params for one in Run.read(tmp_path).records] == [
        TrialParams("lora", {"r": 8, "learning_rate": 0.01}),
        TrialParams("soft_prompt", {"num_virtual_tokens": 4}, CLONE),
        TrialParams("lora", {"r": 16, "learning_rate": 0.02}),
    ]


def test_tables_name_axes_as_the_sweep_does_even_before_its_second_learner_has_a_trial(tmp_path: Path) -> None:
    history = TrialHistory(({"round": 1, "score": 0.5, "loss": 1.0, "diverged": False, "seconds": 1.0, "at": 1.0},))
    record = TrialRecord("t0", 0, TrialParams("lora", {"r": 8}, CLONE), "finished", history, 4)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(least_facts()))
    for learners, names in (
        (["lora"], ["params_r", "params_start_from"]),
        (["lora", "dora"], ["params_learner", "params_lora.r", "params_start_from"]),
    ):
        write_all(tmp_path, [record], baselines={}, rounds=1, pairs=learners)
        for table in (pd.read_parquet(tmp_path / "trials.parquet"), pd.read_csv(tmp_path / "leaderboard.csv")):
            assert [name for name in table if name.startswith("params_")] == names
        (read,) = Run.read(tmp_path).records
        assert read.params == record.params
