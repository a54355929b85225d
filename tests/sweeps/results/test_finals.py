"""The choice of finalists, their verdict, and their training and evaluation on the test split."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from sweeps.results.confirmation import Confirmation
from sweeps.results.finals import candidates, harm, markdown, most_telling, verdict
from sweeps.results.records import UNTOUCHED, Final, TrialRecord
from sweeps.results.trial_history import TrialHistory
from sweeps.results.trial_params import TrialParams
from tests.support.report_kit import items
from trainables.core import Pair
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.runtime.trial import STATE_FILE, Finalist, FinalistJob, open_learner, untouched_scores
from trainables.tasks.arc.task import ArcTask
from trainables.tasks.arena.task import ArenaTask, baselines


def record(number, scores, status="finished", diverged=()):
    history = [{"round": i, "score": s, "diverged": i in diverged} for i, s in enumerate(scores, start=1)]
    return TrialRecord(
        f"t{number}", number, TrialParams("lora", {"r": number}), status, TrialHistory(tuple(history)), 100
    )


def test_candidates_are_the_best_at_their_best_round_and_the_defaults():
    records = [
        record(0, [0.2, 0.3], "pruned"),  # a default
        record(1, [0.6, 0.5, 0.6, 0.4]),  # another
        record(2, [0.4, 0.9, 0.8, 0.7]),
        record(3, [0.0], "diverged", diverged=(1,)),
        record(4, [], "failed"),
        record(5, [0.5, 0.6, 0.1, 0.1]),
    ]
    chosen = candidates(
        records, top=2, defaults=[TrialParams("lora", {"r": 1}), TrialParams("lora", {"r": 0})], rounds=4
    )
    assert [(c.trial_id, c.name, c.rounds, c.searched) for c in chosen] == [
        ("t2", "trial 2", 2, 0.9),
        ("t1", "trial 1 (default)", 1, 0.6),
        ("t0", "trial 0 (default)", 4, None),  # the search did not choose it, so no luck is in its score
    ]
    assert candidates(records[3:5], top=3, defaults=[], rounds=4) == []


def test_a_configuration_is_one_candidate_and_a_default_is_one_trial():
    """--set left out what the default differs in, so that all trials have what is left of it."""
    records = [
        replace(record(n, [0.1 * n]), params=TrialParams("lora", {"r": min(n, 3), "lora_alpha": 16})) for n in range(6)
    ]
    chosen = candidates(records, top=2, defaults=[TrialParams("lora", {"lora_alpha": 16})], rounds=4)
    assert [one.name for one in chosen] == ["trial 5", "trial 2", "trial 0 (default)"], "3 to 5 are one configuration"
    same = [replace(one, params=TrialParams("lora", {"lora_alpha": 16})) for one in records]
    assert [one.name for one in candidates(same, 3, [TrialParams("lora", {"lora_alpha": 16})], 4)] == [
        "trial 5 (default)"
    ]


def test_names_of_candidates_say_the_learner_where_there_are_several():
    records = [record(0, [0.3]), record(1, [0.2]), replace(record(2, [0.4]), params=TrialParams("hybrid", {"r": 2}))]
    chosen = candidates(records, top=2, defaults=[TrialParams("lora", {"r": 0})], rounds=1)
    assert [one.name for one in chosen] == ["trial 2 (hybrid)", "trial 0 (lora, default)"]


def with_learner(one, learner):
    return replace(one, params=TrialParams(learner, one.params.fields))


def test_a_timed_sweep_trains_the_best_of_each_learner_for_all_rounds():
    """ASHA or the clock ended trials 1 and 2; what later rounds would have brought is not known."""
    records = [
        with_learner(record(0, [0.5, 0.6, 0.7, 0.6]), "lora"),
        with_learner(record(1, [0.2, 0.3], "pruned"), "hybrid"),
        with_learner(record(2, [0.65], "pruned"), "lora"),
    ]
    chosen = candidates(records, top=1, defaults=[], rounds=4, timed=True)
    assert [(one.trial_id, one.rounds) for one in chosen] == [("t0", 3), ("t1", 4)]
    assert [one.trial_id for one in candidates(records, top=1, defaults=[], rounds=4)] == ["t0"]


def test_the_finalists_that_tell_most_stay_where_time_is_short():
    records = [with_learner(record(n, [0.9 - n / 10]), "lora" if n < 3 else "hybrid") for n in range(5)]
    defaults = [TrialParams("lora", {"r": 2}), TrialParams("hybrid", {"r": 4})]
    chosen = candidates(records, top=5, defaults=defaults, rounds=1, timed=True)
    assert [one.trial_id for one in most_telling(chosen, 2, defaults)] == ["t0", "t3"], "the best of each learner"
    assert [one.trial_id for one in most_telling(chosen, 3, defaults)] == ["t0", "t1", "t3"], "then the next best"
    alone = candidates(records[:3], top=3, defaults=defaults[:1], rounds=1, timed=True)
    assert [one.trial_id for one in most_telling(alone, 2, defaults[:1])] == ["t0", "t2"], "the best and the default"


def test_a_clear_winner_is_named_and_the_search_is_corrected():
    finals = [
        Final("trial 7", 0.9, items(0.8, seed=1)),
        Final("trial 2", 0.7, items(0.6, seed=2)),
        Final(UNTOUCHED, None, items(0.2, seeds=1, seed=3)),
    ]
    first, base, noise, curse = verdict(Confirmation(finals))
    apart = 100 * (finals[0].score - finals[1].score)
    assert first.startswith(
        f"trial 7 is better than all other finalists (the next is trial 2: {apart:+.1f} points, 95 % interval"
    )
    assert "; n=300, p <= 0.00" in first
    between = np.concatenate([one.scores.mean(1) - one.score for one in finals[:2]])
    spread = 100 * (np.sum(between**2) / 4) ** 0.5
    assert noise.startswith(
        f"Noise floor: the score of one configuration differs from seed to seed by {spread:.1f} points"
    )
    assert "4 degrees of freedom" in noise
    gain = 100 * (finals[0].score - finals[2].score)
    assert base == f"The best is {gain:+.1f} points from the untouched base"
    above = 100 * ((0.9 - finals[0].score) + (0.7 - finals[1].score)) / 2
    assert above > 0
    assert curse.startswith(f"Search scores were {above:.1f} points above test scores")
    *_, lucky = verdict(Confirmation([replace(finals[0], searched=finals[0].score - 0.05), finals[2]]))
    assert lucky.startswith("Search scores were 5.0 points below test scores")
    table = markdown(Confirmation(finals[::-1]))
    rows = [line for line in table.splitlines() if line.startswith("| ") and "rank" not in line]
    assert [row.split(" | ")[1] for row in rows] == ["trial 7", "trial 2", UNTOUCHED]
    assert "| 90.0 % |" in rows[0]
    assert rows[0].count(" %,") == 2, "a score for each of three seeds"


def test_nothing_learned_is_said():
    finals = [Final("trial 1", 0.3, items(0.2, seed=4)), Final(UNTOUCHED, None, items(0.2, seeds=1, seed=5))]
    said = " ".join(verdict(Confirmation(finals)))
    assert "are indistinguishable (first from second " in said
    assert "nothing was shown to be learned" in said


def right(count, seeds=3, n=60):
    """Answers that are equal for every seed."""
    return np.array([[1.0] * count + [0.0] * (n - count)] * seeds)


def test_a_base_that_beats_every_finalist_is_told_as_harm():
    """Of 60 questions the base knows 40, and what was trained 28 and 20 of these. McNemar: 2 / 2^12 and 2 / 2^20, for
    two and three pairs."""
    base = Final(UNTOUCHED, None, right(40, seeds=1))
    said = verdict(Confirmation([Final("trial 1", 0.9, right(28)), Final("trial 2", 0.9, right(20)), base]))
    assert said[0].startswith("untouched base is better than all other finalists (the next is trial 1: +20.0 points, ")
    assert (
        said[1] == "Training made every finalist worse than the untouched base, by 20.0 to 33.3 points (p <= 0.00049)"
    )
    assert "nothing was shown to be learned" not in " ".join(said)
    said = verdict(Confirmation([Final("trial 1", 0.9, right(28)), base]))
    assert said[1] == "Training made trial 1 worse than the untouched base, by 20.0 points (p = 0.00049)"


def test_a_finalist_that_training_made_worse_is_named_beside_others():
    base = Final(UNTOUCHED, None, right(40, seeds=1))
    harmed = Final("trial 2", None, right(20))
    words = "Training made trial 2 worse than the untouched base, by 33.3 points (p = "
    level = verdict(Confirmation([Final("trial 1", None, right(41)), base, harmed]))
    assert level[1] == "The untouched base is among them: nothing was shown to be learned"
    assert level[2].startswith(words)
    better = verdict(Confirmation([Final("trial 1", None, right(58)), base, harmed]))
    assert better[1] == "The best is +30.0 points from the untouched base"
    assert better[2].startswith(words)
    level = verdict(Confirmation([Final("trial 1", None, right(41)), base, Final("trial 2", None, right(37))]))
    assert not any(line.startswith("Training made") for line in level)
    assert harm(Confirmation([harmed])) == "", "without a base, nothing is known"


def test_a_winner_that_says_no_to_everything_is_named_as_such():
    """275 of 500 test questions are No, but half of the search's: the untouched base is unparsed and scores nothing."""
    no = np.array([[1.0] * 275 + [0.0] * 225] * 3)
    finals = [Final("trial 1", 0.5, no), Final(UNTOUCHED, None, np.zeros((1, 500)))]
    said = verdict(Confirmation(finals, [], {"chance": 0.5, "constant": 0.55, "constant.one_hop": 0.9}))
    assert "The best is +55.0 points from the untouched base" in said
    assert "No better than the constant baseline was shown: 55.0 % (50.6-59.3) against 55.0 %" in said
    assert len(verdict(Confirmation(finals, [], {"constant": 0.4}))) == len(said) - 1


def test_items_that_belong_together_are_counted_once():
    """20 prompts asked three times each are 20 questions."""
    answers = np.repeat(items(0.5, seeds=1, n=20, seed=6), 3, axis=1)
    names = [str(i) for i in range(20) for _ in range(3)]
    finals = [Final("trial 1", 0.5, answers), Final(UNTOUCHED, None, np.zeros((1, 60)))]
    assert "; n=60 (20 independent), " in verdict(Confirmation(finals, names, {}))[0]
    together, apart = (Confirmation(finals, clusters).bounds()["trial 1"] for clusters in (names, []))
    assert (together[1] - together[0]) / (apart[1] - apart[0]) == pytest.approx(3**0.5, rel=0.1)


def test_trivial_strategies_are_measured_on_the_split_that_was_asked():
    task = ArenaTask(train_size=40, search_size=20, test_size=30)
    test = baselines(task.train(), task.test())
    assert task.with_search(task.test()).baselines() == test
    assert test != task.baselines()


def test_a_finalist_is_trained_for_its_rounds_with_its_seed_and_asked_the_test_split():
    task = ArenaTask(train_size=20, search_size=10, test_size=15)
    pair = Pair(LoraConfig(steps_per_round=2), task, "builtin:tiny")
    job = FinalistJob("trial 0", TrialParams("lora", {"r": 4}), 2, 5, (0, 15))
    small = replace(pair, learner=replace(pair.learner, r=4))

    class Here(Finalist):
        def setup(self, config):
            super().setup(config, resolve=lambda params: replace(pair, learner=replace(pair.learner, **params.fields)))

    result = Here(config={"job": job}).step()
    assert result["done"]
    assert (result["steps"], len(result["items"])) == (4, 15)
    by_hand = open_learner(small, 5)
    by_hand.round()
    losses = by_hand.round()
    assert result["loss"] == pytest.approx(losses.loss, rel=1e-5)
    assert result["items"] == by_hand.evaluate("test").items
    assert result["train_seconds"] > 0 < result["evaluation_seconds"]
    on_test = replace(pair, task=task.with_search(task.test()))
    assert len(untouched_scores(on_test, 0)["items"]) == 15


def test_further_questions_are_asked_of_the_state_that_was_kept(tmp_path):
    """Both parts together are what one evaluation of all questions gives."""
    task = ArenaTask(train_size=20, search_size=10, test_size=10)
    pair = Pair(LoraConfig(steps_per_round=2), task, "builtin:tiny")

    class Here(Finalist):
        def setup(self, config):
            super().setup(config, resolve=lambda params: pair)

    def asked(first, end, state=""):
        trial = Here(config={"job": FinalistJob("trial 0", TrialParams("lora", {}), 1, 5, (first, end), state)})
        return trial, trial.step()["items"]

    trial, first = asked(0, 10)
    trial.save_checkpoint(str(tmp_path))
    _, more = asked(10, 25, str(tmp_path / STATE_FILE))
    _, together = asked(0, 25)
    assert first + more == together
    assert task.test_up_to(25)[:10] == task.test()


def test_a_learner_that_trains_on_what_it_is_asked_is_asked_the_test_split():
    """`percell` trains on a task's own demonstrations: for a finalist those of the test split, and no others."""
    task = ArcTask(same_size=True, max_side=4, limit_search=2, limit_test=3)

    class Here(Finalist):
        def setup(self, config):
            super().setup(config, resolve=lambda params: Pair(PercellConfig(steps_per_round=2), task))

    result = Here(config={"job": FinalistJob("trial 0", TrialParams("percell", {}), 2, 3, (0, 3))}).step()
    by_hand = PercellConfig(steps_per_round=2).build(None, task, 3)
    for _ in range(2):
        by_hand.round()
    assert result["items"] == by_hand.evaluate("test").items
    assert len(result["items"]) == len(task.test())
    copy = pickle.loads(pickle.dumps(task.with_search(task.test())))
    assert copy.search() == copy.split("search") == task.test()
    assert copy.train() == task.train()
    assert isinstance(copy, ArcTask)
    assert task.search() != task.test(), "the task itself is as before"


def test_the_best_is_compared_with_each_learner_before_its_training():
    """Of 60 tasks programs alone solve 12, and the ensemble nine more; percell solves 6, its lenses 2."""
    own = {"ensemble": "untrained ensemble (programs and lenses alone)", "percell": "untrained percell (lenses alone)"}
    finals = [
        Final("trial 1 (ensemble)", 0.4, right(21), "t1", before=own["ensemble"]),
        Final("trial 2 (percell)", 0.3, right(6), "t2", before=own["percell"]),
        Final(own["ensemble"], None, right(12, seeds=1)),
        Final(own["percell"], None, right(2, seeds=1)),
    ]
    known = Confirmation(finals)
    assert [one.name for one in known.untouched] == [*own.values()]
    assert [known.before(one).name for one in finals[:2]] == [*own.values()]
    p = {one.second: one.p for one in known.comparisons()}
    told = next(line for line in verdict(known) if line.startswith("The best is"))
    assert told == (
        f"The best is +15.0 points from the {own['ensemble']} (p = {p[own['ensemble']]:.2g}),"
        f" +31.7 from the {own['percell']} (p = {p[own['percell']]:.2g})"
    )
    level = Confirmation([replace(finals[0], scores=right(12)), *finals[1:]])
    assert f"The {own['ensemble']} is among them: nothing was shown to be learned" in verdict(level)
    changed = replace(finals[1], scores=right(0)), finals[2], replace(finals[3], scores=right(20, seeds=1))
    harm = next(line for line in verdict(Confirmation([finals[0], *changed])) if line.startswith("Training made"))
    assert harm.startswith(f"Training made trial 2 (percell) worse than the {own['percell']}, by 33.3 points")
