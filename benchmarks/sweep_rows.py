"""What does the arena's sweep cost, and is its winner as good as that of an earlier commit's sweep?

    python benchmarks/sweep_rows.py --before 9bdca29    # five sweeps of each, an hour and a half on two cores

Called again, it goes on with the first sweep that has not ended. Each sweep runs `sweeps/arena.py` with its defaults
and a seed of its own, in a copy of its commit. Then each winner, as it lies in `best/`, is asked the same 2,000
questions of the test split. Columns: rounds of the search, trainings of finalists, training rows of both in thousands,
and the winner's score. The share of rows has a 95 % interval from a bootstrap over sweeps; the difference of the
winners has one from a bootstrap over sweeps and questions.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

import numpy as np
import pyarrow.parquet as pq

from trainables.models.hf_generate import generate_completions
from trainables.models.loading import load
from trainables.models.side_by_side import trained_model
from trainables.models.tokenization import decode, encode_prompt
from trainables.tasks.arena.task import ArenaTask

ROOT = Path(__file__).resolve().parents[1]
BASE = "builtin:tiny"
QUESTIONS, TOGETHER, RESAMPLES = 2000, 100, 10_000


@dataclass(frozen=True)
class Spent:
    """What a sweep spent, and what its winner answered right (QUESTIONS,)."""

    rounds: int
    trainings: int
    rows: float
    right: np.ndarray


def copy_of(commit: str, folder: Path) -> Path:
    """Return a folder with the files of a commit, which are written if they are not there yet."""
    where = folder / commit
    if not where.exists():
        files = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(files)) as archive:
            archive.extractall(where, filter="data")
    return where


def run_sweep(code: Path, folder: Path, seed: int) -> Path:
    """Run the arena's sweep in `folder`, if it has not ended there yet; return its run folder."""
    made = folder / "runs" / f"arena-{seed}"
    if not (made / "best" / "config.yaml").exists() or not (made / "end.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(code / "sweeps" / "arena.py"), "--name", made.name, "--seed", str(seed)]
        with (folder / f"{made.name}.log").open("w") as log:
            subprocess.run([*command, "--no-report"], cwd=folder, stdout=log, stderr=log, check=True)
    return made


def spent(run: Path) -> tuple[int, int, float]:
    """Return the rounds of the search, the trainings of finalists, and the training rows of both."""
    trials = [one for one in pq.read_table(run / "trials.parquet").to_pylist() if one["round"]]
    of_round: dict[str, float] = {}  # rows of a round, by trial
    for one in trials:
        params = {name.rpartition(".")[2]: value for name, value in json.loads(one["params"]).items()}
        of_round[one["trial_id"]] = one["steps"] * params["per_device_train_batch_size"] / one["round"]
    columns = ["trial_id", "seed", "rounds"]
    finalists = pq.read_table(run / "finalists.parquet", columns=columns).group_by(columns).aggregate([]).to_pylist()
    trained = [one for one in finalists if one["trial_id"] in of_round]
    rows = sum(of_round[one["trial_id"]] for one in trials)
    rows += sum(of_round[one["trial_id"]] * one["rounds"] for one in trained)
    return len(trials), len(trained), rows


def answers(run: Path) -> np.ndarray:
    """Return which of the test split's questions the winner answers right; they are kept in the run's folder."""
    kept = run / "answers.npy"
    if not kept.exists():
        task = ArenaTask(test_size=QUESTIONS)
        asked = task.test()
        base, model = load(BASE), trained_model(BASE, run / "best")
        right: list[float] = []
        for start in range(0, len(asked), TOGETHER):
            some = asked[start : start + TOGETHER]
            prompts = [encode_prompt(base.tokenizer, one.prompt) for one in some]
            made = generate_completions(model, prompts, base.eos, task.max_new_tokens)
            texts = [decode(base.tokenizer, one.tokens) for one in made]
            right += [task.score(one, text) for one, text in zip(some, texts, strict=True)]
        np.save(kept, np.array(right))
    return np.load(kept)


def report(before: list[Spent], now: list[Spent]) -> str:
    lines = ["| Sweep | Rounds of the search | Trainings of finalists | Thousand rows | Winner |"]
    lines.append("|---|---:|---:|---:|---:|")
    for name, found in (("before", before), ("now", now)):
        for i, one in enumerate(found):
            cells = f"{one.rounds} | {one.trainings} | {one.rows / 1000:.1f} | {one.right.mean():.1%}"
            lines.append(f"| {name}, seed {i} | {cells} |")
    rows = [np.array([one.rows for one in found]) for found in (before, now)]
    right = [np.stack([one.right for one in found]) for found in (before, now)]
    rng, shares, differences = np.random.default_rng(0), [], []
    for _ in range(RESAMPLES):
        drawn = [rng.integers(len(one), size=len(one)) for one in rows]
        asked = rng.integers(QUESTIONS, size=QUESTIONS)
        shares.append(rows[1][drawn[1]].mean() / rows[0][drawn[0]].mean())
        differences.append(100 * (right[1][drawn[1]].mean(0)[asked].mean() - right[0][drawn[0]].mean(0)[asked].mean()))
    share, difference = rows[1].mean() / rows[0].mean(), 100 * (right[1].mean() - right[0].mean())
    (low, high), (least, most) = (np.quantile(one, (0.025, 0.975)) for one in (shares, differences))
    lines.append(f"\nrows, as a share of before: {share:.2f} [{low:.2f}, {high:.2f}]")
    lines.append(f"the winner against before: {difference:+.1f} points [{least:+.1f}, {most:+.1f}]")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, metavar="COMMIT", help="of the sweep to compare with")
    parser.add_argument("--now", default="HEAD", metavar="COMMIT", help="of the other one")
    parser.add_argument("--sweeps", type=int, default=5, help="of each")
    parser.add_argument("--folder", type=Path, default=Path("runs/sweep-rows"), help="for checkouts and sweeps")
    given = parser.parse_args()
    found: dict[str, list[Spent]] = {}
    folder = given.folder.resolve()
    for seed in range(given.sweeps):
        for name, commit in (("before", given.before), ("now", given.now)):
            run = run_sweep(copy_of(commit, folder), folder / name, seed)
            found.setdefault(name, []).append(Spent(*spent(run), answers(run)))
            print(f"{name}, seed {seed}: {found[name][-1].rows / 1000:.1f} thousand rows", flush=True)
    print(report(found["before"], found["now"]))


if __name__ == "__main__":
    main()
