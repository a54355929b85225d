"""The display: exact lines where there is no terminal, and a block that fits 80 columns where there is one."""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.results.records import Status, TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from sweeps.tuning.progress import Progress, SweepProgress, TrialProgress, minutes, render
from tests.support.tracking_kit import FakeTrial


def play(progress: Progress, folder: Path, *, rounds: int = 4) -> list[FakeTrial]:
    """One trial of each end: finished, pruned, diverged, failed; and one that a time budget cuts short."""
    trials = [FakeTrial(f"t{i}", {"r": 8, "learning_rate": 10.0**-i}) for i in range(5)]
    (folder / "error.pkl").write_bytes(pickle.dumps(OSError("the node is gone")))
    trials[3].pickled_error_file = str(folder / "error.pkl")
    progress.setup()
    progress.on_step_begin(0, [])

    def report(trial, round_, score, **more):
        trial.last_result = {"training_iteration": round_, "score": score, **more}
        progress.on_trial_result(0, trials, trial, trial.last_result)

    for trial in trials:
        progress.on_trial_start(0, trials, trial)
    for round_ in range(1, rounds + 1):
        report(trials[0], round_, 0.1 * round_, done=round_ == rounds)
    progress.on_trial_complete(0, trials, trials[0])
    report(trials[1], 1, 0.05, done=True)
    progress.on_trial_complete(0, trials, trials[1])
    report(trials[2], 2, 0.99, done=True, diverged=True)
    progress.on_trial_complete(0, trials, trials[2])
    progress.on_trial_recover(0, trials, trials[3])
    progress.on_trial_start(0, trials, trials[3])
    progress.on_trial_error(0, trials, trials[3])
    report(trials[4], 2, 0.3)
    trials[4].status = "TERMINATED"
    return trials


def test_one_line_per_event_without_a_terminal(tmp_path):
    stream = io.StringIO()
    progress = Progress(total=8, rounds=4, chance=0.25, stream=stream)
    progress.on_experiment_end(play(progress, tmp_path))
    lines = [re.sub(r"^ +\d+:\d\d  ", "", line) for line in stream.getvalue().splitlines()]
    assert lines == [
        *(f"trial {i} started" for i in range(5)),
        *(
            f"new best {p} (chance 25.0 %): trial 0, round {r}  learning_rate=1"
            for r, p in [(1, "10.0 %"), (2, "20.0 %")]
        ),
        *(
            f"new best {p} (chance 25.0 %): trial 0, round {r}  learning_rate=1"
            for r, p in [(3, "30.0 %"), (4, "40.0 %")]
        ),
        "trial 0 finished, 40.0 %",
        "trial 1 pruned at round 1, 5.0 %",
        "trial 2 diverged at round 2",
        "trial 3 goes on from its last checkpoint after OSError: the node is gone",
        "trial 3 restored",
        "trial 3 failed after round 0: OSError: the node is gone",
    ]
    assert "\x1b" not in stream.getvalue()
    statuses = [trial.status for trial in progress.state.trials.values()]
    assert statuses == ["finished", "pruned", "diverged", "failed", "interrupted"]


def record(number: int, status: Status, scores: list[float]) -> TrialRecord:
    history = [{"round": i, "score": score} for i, score in enumerate(scores, start=1)]
    return TrialRecord(
        f"t{number}", number, TrialParams("toy", {"r": number}), status, TrialHistory(tuple(history)), 20
    )


def test_a_resumed_sweep_counts_what_was_done_before_but_not_in_its_pace():
    stream = io.StringIO()
    earlier = [record(0, "finished", [0.1, 0.5]), record(1, "running", [0.1]), record(2, "pruned", [0.2])]
    progress = Progress(total=5, rounds=2, chance=0.0, stream=stream, earlier=lambda: earlier)
    progress.on_step_begin(0, [])
    assert "resumed with 2 trials done" in stream.getvalue()
    assert progress.state.time_left() is None
    waiting = FakeTrial("t1", {"r": 1}, "PENDING")
    progress.on_trial_start(0, [], waiting)
    progress.on_trial_result(0, [], waiting, {"training_iteration": 2, "score": 0.1})
    progress.state.elapsed = 30.0  # half a trial in 30 s: 2 trials are left
    assert progress.state.time_left() == pytest.approx(120.0)


def test_a_resumed_sweep_goes_on_with_its_numbers_and_its_best():
    """`espalier stop 2` is of the leaderboard's trial 2, whatever order Tune has its trials in."""
    stream = io.StringIO()
    earlier = [record(0, "finished", [0.9, 0.4]), record(1, "interrupted", [0.1]), record(2, "running", [0.3])]
    progress = Progress(total=5, rounds=2, chance=0.0, stream=stream, earlier=lambda: earlier)
    progress.on_step_begin(0, [])
    assert block(progress.state)[2] == "0 running, 1 finished, 0 pruned, 2 interrupted, 2 pending"
    for name, score in (("t2", 0.5), ("t7", 0.8), ("t1", 0.95)):
        trial = FakeTrial(name, {"r": name})
        progress.on_trial_start(0, [], trial)
        progress.on_trial_result(0, [], trial, {"training_iteration": 2, "score": score})
    lines = [line.split("  ")[-1] if "best" not in line else line for line in stream.getvalue().splitlines()]
    assert lines[1:4] == ["trial 2 restored", "trial 3 started", "trial 1 restored"]
    assert "new best 95.0 % (chance 0.0 %): trial 1, round 2" in lines[4]


def test_a_trial_that_diverges_is_the_best_no_longer():
    stream = io.StringIO()
    progress = Progress(total=2, rounds=4, chance=0.0, stream=stream)
    lost, other = FakeTrial("t0", {"r": 0}), FakeTrial("t1", {"r": 1})
    for trial, score in ((lost, 0.8), (other, 0.5)):
        progress.on_trial_start(0, [], trial)
        progress.on_trial_result(0, [], trial, {"training_iteration": 1, "score": score})
    lost.last_result = {"training_iteration": 2, "score": 0.0, "diverged": True, "done": True}
    progress.on_trial_result(0, [], lost, lost.last_result)
    progress.on_trial_complete(0, [], lost)
    assert progress.state.best_line().startswith("best 50.0 % (chance 0.0 %): trial 1, round 1")
    assert progress.state.events[-1].endswith("trial 0 diverged at round 2"), "what it scored before says nothing good"
    progress.on_trial_result(0, [], other, {"training_iteration": 2, "score": 0.6})
    assert "new best 60.0 %" in stream.getvalue()


def reached(rounds: int, score: float, best: int) -> TrialHistory:
    rows = [{"round": i, "score": score if i == best else score / 2} for i in range(1, rounds + 1)]
    return TrialHistory(tuple(rows))


def block(state: SweepProgress) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(render(state))
    return console.file.getvalue().splitlines()


def test_the_block_says_what_there_is():
    state = SweepProgress(total=10, rounds=4, chance=0.25, elapsed=60.0)
    state.trials = {
        "a": TrialProgress(0, TrialParams("toy", {"r": 8, "lr": 0.001}), "finished", reached(4, 0.5, 3)),
        "b": TrialProgress(1, TrialParams("toy", {"r": 8, "lr": 0.01}), "pruned", reached(1, 0.2, 1)),
        "c": TrialProgress(2, TrialParams("toy", {"r": 8, "lr": 0.1}), "running", reached(2, 0.3, 2)),
    }
    state.events.append("   0:59  trial 2 started")
    lines = block(state)
    assert lines[0] == "2 of 10 trials, 1:00 elapsed, about 3:00 left"  # 7.5 left, 2.5 a minute
    assert lines[1] == 10 * "█" + 30 * "░"  # 2.5 of 10
    assert lines[2] == "1 running, 1 finished, 1 pruned, 7 pending"
    assert lines[3] == "best 50.0 % (chance 25.0 %): trial 0, round 3  lr=0.001"
    assert lines[4] == "   0:59  trial 2 started"


def test_the_block_fits_80_columns_whatever_the_names():
    state = SweepProgress(total=1000, rounds=40, chance=1 / 3, elapsed=99999.0)
    names = [f"gradient_accumulation_steps_{i}" for i in range(8)]
    for i in range(20):
        status = ["running", "diverged", "failed", "interrupted", "pruned"][i % 5]
        state.trials[f"t{i}"] = TrialProgress(
            i, TrialParams("toy", dict.fromkeys(names, i + 0.123456)), status, reached(40, 0.9 if i == 5 else 0.5, 40)
        )
        state.events.append(f"  1:00:00  {'an event with a long story ' * 6}")
    lines = block(state)
    assert max(map(len, lines)) <= 80
    assert "gradient_accumulation_steps_7=5.12" in "".join(lines)  # folded, not cut
    assert len(lines) <= 20


def test_an_empty_sweep_draws():
    assert block(SweepProgress(total=0, rounds=1, chance=0.0))[0] == "0 of 0 trials, 0:00 elapsed"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_block_is_redrawn_and_left_standing(tmp_path):
    stream = Terminal()
    progress = Progress(total=8, rounds=4, chance=0.25, stream=stream)
    progress.on_experiment_end(play(progress, tmp_path))
    last = stream.getvalue().rpartition("4 of 8 trials")[2]
    assert "best 40.0 %" in last
    assert "3 pending" in last


def test_a_dumb_terminal_gets_a_line_per_event(tmp_path, monkeypatch):
    """It cannot go back to redraw a block."""
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    progress = Progress(total=8, rounds=4, chance=0.25, stream=stream)
    progress.on_experiment_end(play(progress, tmp_path))
    assert "trial 0 finished, 40.0 %\n" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_an_encoding_without_blocks_gets_a_bar_of_other_characters(tmp_path):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii")
    stream.isatty = lambda: True
    progress = Progress(total=8, rounds=4, chance=0.25, stream=stream)
    progress.on_experiment_end(play(progress, tmp_path))
    stream.flush()
    assert 22 * b"#" + 18 * b"-" in raw.getvalue()  # 4.5 of 8 trials


def test_a_narrow_block_keeps_the_score_and_what_differs():
    state = SweepProgress(total=10, rounds=4, chance=0.25)
    for i in range(2):
        params = TrialParams("toy", {"lr": 0.1 + i, "r": i})
        state.trials[str(i)] = TrialProgress(i, params, "finished", reached(4, 0.5 + i / 10, 3))
    console = Console(width=40, file=io.StringIO())
    console.print(render(state))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert "best 60.0 %" in " ".join(lines)
    assert "lr=1.1 r=1" in " ".join(lines)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (75.9, "1:15"), (3700, "1:01:40")])
def test_minutes(seconds, text):
    assert minutes(seconds) == text


def test_trials_of_several_learners_are_named_with_theirs():
    """Which learner wins is what the sweep asks."""
    stream = io.StringIO()
    progress = Progress(total=2, rounds=1, chance=0.0, stream=stream, several_pairs=True)
    for number, learner in enumerate(("lora", "soft_prompt")):
        trial = FakeTrial(f"t{number}", {"learning_rate": 0.1 * (1 + number)}, learner=learner)
        progress.on_trial_start(0, [], trial)
        progress.on_trial_result(0, [], trial, {"training_iteration": 1, "score": 0.5 * number})
    assert "trial 1 (soft_prompt) started" in stream.getvalue()
    assert progress.state.best_line().endswith("trial 1 (soft_prompt), round 1  learning_rate=0.2")
