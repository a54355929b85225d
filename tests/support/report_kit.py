"""Small folders of sweeps, made by the writers that a sweep uses, for the tests of its page."""

from __future__ import annotations

import re

import numpy as np
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search_spaces.space import Space
from sweeps.report.page import write_report
from sweeps.results.leaderboard import write_all
from sweeps.results.records import UNTOUCHED, Final, TrialRecord
from sweeps.results.tables import FINALISTS, finalists_parquet
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from trainables.core import Example

SPACE = Space(
    {
        "learning_rate": FloatDistribution(1e-4, 2e-2, log=True),
        "weight_decay": FloatDistribution(0.0, 0.1),
        "depth": IntDistribution(1, 12),
        "lr_scheduler_type": CategoricalDistribution(("constant", "linear", "cosine_with_restarts", "polynomial")),
        "per_device_train_batch_size": CategoricalDistribution((4, 8, 16)),
        "permute": CategoricalDistribution((False, True)),
        "hidden_size": CategoricalDistribution(tuple(range(1000, 1014))),  # more labels than there is room for
    }
)
WORDS = ("causal", "a_kind_with_a_long_name_$x$_in_it", "math")


def trial(number, score, status="finished", rounds=4, learner="lora", **params):
    rng = np.random.default_rng(number)
    given = {
        "learning_rate": float(10 ** rng.uniform(-4, -1.7)),
        "weight_decay": float(rng.uniform(0, 0.1)),
        "depth": int(rng.integers(1, 13)),
        "lr_scheduler_type": ("constant", "linear", "cosine_with_restarts", "polynomial")[rng.integers(4)],
        "per_device_train_batch_size": (4, 8, 16)[rng.integers(3)],
        "permute": bool(rng.integers(2)),
        "hidden_size": int(1000 + rng.integers(14)),
    } | params
    cost = {"trainable_parameters": 1000 * (1 + number % 7), "tokens_per_second": 500.0, "seconds": 2.0}
    kinds = {f"score.{kind}": score for kind in WORDS}
    history = [
        {"round": i, "score": score * i / rounds, "loss": 1.0, "time_s": 2.0 * i, "at": 1e9 + 5 * number + 2 * i}
        | {"diverged": status == "diverged"}
        | cost
        | kinds
        for i in range(1, rounds + 1)
    ]
    items = (1.0,) * round(100 * score) + (0.0,) * round(100 * (1 - score))
    return TrialRecord(
        f"t{number}", number, TrialParams(learner, given), status, TrialHistory(tuple(history)), 100, items=items
    )


def several(n=24):
    return [
        trial(i, 0.3 + 0.5 * ((i * 37) % 100) / 100, "pruned" if i % 3 else "finished", 2 if i % 3 else 4)
        for i in range(n)
    ]


def pair(learner="lora", base="builtin:tiny"):
    task = {"name": "arena", "class": "trainables.tasks.arena.task.ArenaTask"}
    config = {"name": learner, "class": "trainables.learners.lm.lora.LoraConfig", "fields": {}}
    return {"learner": config, "task": task | {"fields": {}}, "base": base}


def folder(path, records, end=True, space=SPACE, pairs=(), guards=(), finals=(), asked=()):
    """A sweep's folder, made by the writers that a sweep uses."""
    path.mkdir(exist_ok=True)
    sweep = {"name": path.name, "pairs": list(pairs) or [pair()], "space": space.to_dict(), "num_samples": 24}
    sweep |= {"grace_period": 2, "reduction_factor": 3, "rounds": 4, "objectives": ["score"]}
    facts = {"sweep": sweep, "guards": list(guards), "commit": "c0ffee", "versions": {"optuna": "5.0.0"}}
    facts |= {"command": ["sweeps/arena.py", "--name", "a b"], "data_fingerprints": {"arena": "27dcf8500180"}}
    (path / "sweep.yaml").write_text(yaml.safe_dump(facts, sort_keys=False))
    if end:
        untouched = {"lora": {"score": 0.2, "lenient": 0.3}}
        known = {"baselines": {"chance": 0.1, "untouched": 0.2}, "untouched": untouched, "seconds": 120.0}
        (path / "end.yaml").write_text(yaml.safe_dump(known))
    learners = [one["learner"]["name"] for one in sweep["pairs"]]
    write_all(path, records, baselines={"chance": 0.1}, rounds=4, pairs=learners)
    if finals:
        (path / FINALISTS).write_bytes(finalists_parquet(finals, asked))
    return path


def page(path):
    return write_report(path).read_text()


def questions(n=60):
    return [Example(f"What is {i}?", str(i), WORDS[i % 3], f"k{i}") for i in range(n)]


def final(name, rate, trial_id, asked, searched=0.8, seeds=3, wrong="no idea"):
    scores = (np.random.default_rng(len(name)).random((seeds, len(asked))) < rate).astype(float)
    said = tuple(tuple(e.answer if right else wrong for e, right in zip(asked, row, strict=True)) for row in scores)
    return Final(name, searched, scores, trial_id, 4, said)


def confirmed(path, wrong="no idea", n=24, **more):
    asked = questions()
    finals = [
        final("trial 0", 0.9, "t0", asked, wrong=wrong),
        final("trial 33", 0.5, "t3", asked),
        final(UNTOUCHED, 0.1, None, asked, None, seeds=1, wrong="I think not"),
    ]
    return folder(path, several(n), finals=finals, asked=asked, **more)


def section(text, name):
    return text.split(f'<section id="{name}"')[1].split("</section>")[0]


def sections(text):
    return re.findall(r'<section id="([^"]+)"', text)


def items(rate, seeds=3, n=300, seed=0):
    return (np.random.default_rng(seed).random((seeds, n)) < rate).astype(float)
