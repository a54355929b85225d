"""Which early signal ranks configurations as their end does: planted, so that likelihood does and scores do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.curves import FORMAT
from benchmarks.ranking import main, rows

ROUNDS, QUESTIONS, COUNT = 4, 50, 60


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Answers of the first rounds are coins, and right with the true score in the last; likelihoods tell it at once."""
    rng = np.random.default_rng(0)
    true = np.linspace(0.1, 0.9, COUNT)
    answers = rng.random((COUNT, ROUNDS, QUESTIONS)) < 0.5
    answers[:, -1] = rng.random((COUNT, QUESTIONS)) < true[:, None]
    likely = np.repeat(true, ROUNDS * QUESTIONS).reshape(COUNT, -1) + 0.01 * rng.normal(
        size=(COUNT, ROUNDS * QUESTIONS)
    )
    table = pyarrow.table(
        {
            "answers": list(answers.reshape(COUNT, -1).astype(float)),
            "log_likelihoods": list(likely),
            "test": list((rng.random((COUNT, QUESTIONS)) < true[:, None]).astype(float)),
            "diverged": [False] * (COUNT - 1) + [True],
        }
    )
    facts = {"rounds": ROUNDS, "questions": QUESTIONS, "space": {}}
    table = table.replace_schema_metadata({FORMAT: json.dumps(facts)})
    pyarrow.parquet.write_table(table, tmp_path / "planted.parquet")
    return tmp_path / "planted.parquet"


def test_the_better_signal_has_the_higher_correlation_and_keeps_the_best(recording: Path) -> None:
    first, *_, last = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows(recording))
    assert first[0] == "planted, round 1 of 4"
    score, likelihood = (float(first[place].partition(",")[0]) for place in (1, 3))
    assert abs(score) < 0.4
    assert likelihood > 0.95
    assert first[3].endswith(", 10"), "all ten best are in the best third"
    low = float(first[-1].partition("[")[2].partition(",")[0])
    assert low > 0.3, "the interval lies above no difference"
    assert float(last[1].partition(",")[0]) > 0.9, "after the last round the score tells it, too"


def test_a_folder_without_recordings_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--curves", str(tmp_path)])
    assert "has no recordings" in capsys.readouterr().err
