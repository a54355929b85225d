"""Checks of the files that every sweep script in miniature must leave behind."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import peft
import transformers

from tests.support.driving import MINIATURES, study

ROOT = Path(__file__).parents[2]


def check_miniature(name, folder, out):
    """Check the files that a sweep leaves behind; the arena's is run in `test_finished_sweep.py`."""
    trials = study(folder, name).trials
    samples = int(MINIATURES[name][1])
    assert len(trials) == samples
    assert {t.user_attrs["ended"] for t in trials} <= {"finished", "pruned"}
    run = folder / "runs" / name
    for file in ("leaderboard.md", "leaderboard.csv", "trials.parquet", "sweep.yaml", "optuna.db", "best/config.yaml"):
        assert (run / file).is_file(), file
    table = pd.read_parquet(run / "trials.parquet")
    assert table["score"].between(0, 1).all()
    assert "MLflow: " in out
    assert "train the winner again" in out
    told = (run / "leaderboard.md").read_text().partition("## Finalists")[2]
    assert re.search(r"Search scores were \d+\.\d points (above|below) test scores", told)
    defaults = {3, 4} if name in ("arena", "own", "reasoning") else {1, 2}
    assert told.count("| trial ") in defaults, "the best, and every default"
    if name == "arena":
        assert "report: runs/arena/report.html" in out
        page = (run / "report.html").read_text()
        assert all(f"{100 * score:.1f} %" in page for score in pd.read_csv(run / "leaderboard.csv").score)
        plots = {path.stem for path in (run / "plots").glob("*.png")}
        assert {"curves", "history", "pareto", "timeline", "kinds"} <= plots
        (stored,) = folder.glob("mlartifacts/*/artifacts/plots")
        assert {path.stem for path in stored.iterdir()} == plots, "MLflow has them, too"
        assert "| untouched base |" in told
        assert "untouched base" in out
        assert {"lora", "soft_prompt", "hybrid"} == set(table["learner"]), "each pair's default is tried first"
        model = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "trainables/builtin/tiny")
        folders = [p.parent for p in (run / "best").rglob("adapter_config.json")]
        assert folders
        for folder in folders:
            peft.PeftModel.from_pretrained(model, folder)
