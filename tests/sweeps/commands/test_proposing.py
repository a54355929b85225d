"""`espalier propose` and `espalier ask`, on the study of a sweep that is at rest."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import yaml

from search_spaces import lora, soft_prompt
from sweeps.commands.proposing import ask, propose
from sweeps.persistence.provenance import describe
from sweeps.persistence.study import storage_of
from sweeps.results.records import Final
from sweeps.results.run_folder import SWEEP_FILE
from sweeps.results.tables import FINALISTS, finalists_parquet
from sweeps.spec.sweep import Sweep
from sweeps.tuning.optuna_searcher import OptunaSearcher, SearchSettings
from tests.support.json_kit import checked
from trainables.bad_input import BadInput
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.soft_prompt import SoftPromptConfig
from trainables.tasks.arena.task import ArenaTask

TASK = ArenaTask(train_size=40, search_size=30, test_size=30)
ONE = Sweep("one", (Pair(LoraConfig(), TASK, "builtin:tiny"),), lora.SPACE, num_samples=8, rounds=1)
PAIRS = (*ONE.pairs, Pair(SoftPromptConfig(), TASK, "builtin:tiny"))
TWO = Sweep("two", PAIRS, {"lora": lora.SPACE, "soft_prompt": soft_prompt.SPACE}, num_samples=8, rounds=1)


def searcher(folder, sweep):
    return OptunaSearcher(SearchSettings.of_sweep(sweep), storage_of(folder))


def begun(folder, sweep, trials=5):
    """The folder of a sweep some of whose trials have ended."""
    folder.mkdir()
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(describe(sweep) | {"command": ["x.py"]}, sort_keys=False))
    search = searcher(folder, sweep)
    for number in range(trials):
        search.suggest(f"t{number}")
        result = {"training_iteration": 1, "score": number / 10, "diverged": False}
        search.on_trial_complete(f"t{number}", result)
    return folder


@pytest.mark.parametrize("sweep", [ONE, TWO], ids=lambda sweep: sweep.name)
def test_ask_says_what_the_search_tries_next_and_queues_nothing(tmp_path, capsys, sweep):
    folder = begun(tmp_path / sweep.name, sweep)
    before = len(searcher(folder, sweep).study.get_trials())
    ask(folder, as_json=True)
    asked = checked(capsys.readouterr().out, "ask")
    assert len(searcher(folder, sweep).study.get_trials()) == before
    shutil.copytree(folder, tmp_path / "copy")
    ask(tmp_path / "copy")
    words = capsys.readouterr().out.split()
    following = searcher(folder, sweep).suggest("next")["params"]
    assert (asked["learner"], asked["params"]) == (following.pair, dict(following.fields))
    assert {word.partition("=")[0] for word in words if "=" in word} == asked["params"].keys()


def test_what_is_proposed_is_tried_next_and_the_rest_is_drawn(tmp_path, capsys):
    folder = begun(tmp_path / "two", TWO)
    propose(folder, ("learning_rate=0.00123", "lora.r=4"), learner="lora")
    assert "lora learning_rate=0.00123 lora.r=4 is queued" in capsys.readouterr().out
    tried = searcher(folder, TWO).suggest("next")["params"]
    assert (tried.pair, tried.fields["learning_rate"], tried.fields["r"]) == ("lora", 0.00123, 4)
    assert tried.fields.keys() == lora.SPACE.axes.keys()
    propose(folder, ("r=8",), learner="lora")
    propose(folder, ("r=16",), learner="lora")
    assert "lora r=16 is queued, and tried after 1 queued before it" in capsys.readouterr().out
    assert [searcher(folder, TWO).suggest(name)["params"].fields["r"] for name in ("a", "b")] == [8, 16]


@pytest.mark.parametrize(
    ("values", "learner", "said"),
    [
        ((), "lora", "say what to try"),
        (("r=4",), None, "choose one with --learner"),
        (("r=4",), "dora", "--learner dora: two has lora, soft_prompt"),
        (("rank=4",), "lora", "with an axis of the search"),
        (("learning_rate=99",), "lora", "is outside"),
    ],
)
def test_what_no_trial_can_be_is_refused(tmp_path, values, learner, said):
    folder = begun(tmp_path / "two", TWO, trials=1)
    with pytest.raises(BadInput, match=said):
        propose(folder, values, learner=learner)


def test_nothing_is_proposed_where_no_trial_will_start(tmp_path):
    full = begun(tmp_path / "one", ONE, trials=8)
    with pytest.raises(BadInput, match=r"all 8 trials of .* are taken"):
        propose(full, ("r=4",))
    over = begun(tmp_path / "over", ONE, trials=1)
    (over / "end.yaml").write_text("interrupted: false\nseconds: 1.0\nbaselines: {}\nuntouched: {}\n")
    with pytest.raises(BadInput, match="is over; add trials with --resume"):
        propose(over, ("r=4",))


def test_a_sweep_that_gets_more_trials_after_its_finalists_takes_proposals_until_the_next_ones(tmp_path, capsys):
    """What the first finalists left stays in the folder until the search of the further trials is over."""
    folder = begun(tmp_path / "one", ONE)
    (folder / "finalists").mkdir()
    final = Final("trial 0", 1.0, np.ones((1, len(TASK.test()))), "t0", 1, (["?"] * len(TASK.test()),))
    (folder / FINALISTS).write_bytes(finalists_parquet([final], TASK.test()))
    with pytest.raises(BadInput, match="is over"):
        propose(folder, ("r=4",))
    facts = yaml.safe_load((folder / SWEEP_FILE).read_text())
    (folder / SWEEP_FILE).write_text(yaml.safe_dump(facts | {"more_trials": [1]}))
    (folder / "end.yaml").write_text("interrupted: true\nseconds: 1.0\nbaselines: {}\nuntouched: {}\n")
    propose(folder, ("r=4",))
    assert searcher(folder, ONE).suggest("next")["params"].fields["r"] == 4
    (folder / FINALISTS).unlink()  # put aside: the next finalists are trained
    with pytest.raises(BadInput, match="is over"):
        propose(folder, ("r=4",))
