"""The generated yes/no world: solved again from its text, without shortcuts, and judged by one parser."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from trainables.guards import inspect
from trainables.tasks.arena_world import ATTRIBUTES, NAMES, THEMES
from trainables.tasks.strategyqa import Said, StrategyQaTask, committed_to, said
from trainables.tasks.strategyqa_data import split_of
from trainables.tasks.strategyqa_world import KINDS, count_questions, draw

TASK = StrategyQaTask()
OPPOSITES = {a: b for m, _, s, _ in ATTRIBUTES.values() for a, b in ((m, s), (s, m))}
ITEMS = [item for things in THEMES.values() for item in things]


def solve(prompt: str) -> bool:
    """The answer from the text alone, by means that share nothing with the generator."""
    *_, question = re.split(r"(?<=[.]) ", prompt)
    owners = {item: who for who, item in re.findall(r"(\w+) has the (\w+)\.", prompt)}
    stated = {(a, word, b) for a, word, b in re.findall(r"(\w+) is (\w+) than (\w+)\.", prompt)}
    stated |= {(b, OPPOSITES[word], a) for a, word, b in stated}
    if found := re.fullmatch(r"Does (\w+) have the (\w+)\?", question):
        return owners.get(found[2]) == found[1]
    resolved = re.sub(r"who has the (\w+)", lambda m: owners[m[1]], question)
    found = re.fullmatch(r"Is (\w+) (\w+) than (\w+)\?", resolved)
    assert found is not None, question
    assert ((found[1], found[2], found[3]) in stated) != ((found[1], OPPOSITES[found[2]], found[3]) in stated)
    return (found[1], found[2], found[3]) in stated


def riddles(kind: str, count: int, seed: int = 3):
    rng = Random(seed)
    return [draw(kind, rng) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_solved_from_its_text_alone(kind):
    for riddle in riddles(kind, 1500):
        assert solve(riddle.prompt) == riddle.holds, riddle


def test_kinds_have_as_many_yes_as_no_and_more_than_20000_questions():
    for split in ("train", "search", "test"):
        counted = Counter((e.kind, e.answer) for e in getattr(TASK, split)())
        assert set(counted) == {(kind, answer) for kind in KINDS for answer in ("Yes", "No")}
        assert max(counted.values()) - min(counted.values()) <= 1
    assert TASK.balance() == pytest.approx({"train": 0.5, "search": 0.5, "test": 0.5}, abs=0.01)
    assert min(count_questions().values()) >= 20_000
    assert len({riddle.prompt for riddle in riddles("two_hops", 20_500)}) > 20_000


def test_splits_share_no_template_with_the_same_entities():
    groups = {split: {e.key.rsplit("/", 1)[0] for e in getattr(TASK, split)()} for split in ("train", "search", "test")}
    for split, own in groups.items():
        assert all(split_of(group) == split for group in own)
        assert not any(own & other for name, other in groups.items() if name != split)
    keys = [e.key for e in TASK.train()]
    assert len(keys) == len(set(keys)) == TASK.train_size


def test_no_guard_stops_the_task():
    assert [finding for finding in inspect(TASK, lambda n: 0.1) if finding.stops] == []


def features(prompt: str) -> list[str]:
    """Words, neighbours, and words at their places from the end: what an answer could be read off without composing."""
    words = re.findall(r"\w+", prompt)
    placed = [f"{word}@{len(words) - i}" for i, word in enumerate(words)]
    return [*words, *map(" ".join, pairwise(words)), *placed]


def shallow_accuracy(kind: str) -> float:
    """Held-out accuracy of a ridge regression on `features`, trained on 3000 questions of a kind."""
    drawn = riddles(kind, 4000)
    index = {f: i for i, f in enumerate(sorted({f for r in drawn for f in features(r.prompt)}))}
    x = np.zeros((len(drawn), len(index)))
    for row, riddle in enumerate(drawn):
        for feature in features(riddle.prompt):
            x[row, index[feature]] = 1
    y = np.array([1.0 if r.holds else -1.0 for r in drawn])
    x -= x[:3000].mean(0)
    kernel = x[:3000] @ x[:3000].T + 30 * np.eye(3000)
    guess = x[3000:] @ x[:3000].T @ np.linalg.solve(kernel, y[:3000])
    return float(((guess > 0) == (y[3000:] > 0)).mean())


def test_words_and_places_do_not_give_two_hops_away():
    """1000 held-out questions: chance is 50 %, and four standard errors above it 56 %."""
    assert shallow_accuracy("two_hops") < 0.564


def seen_from_the_question(fact: str, question: str) -> str:
    """A fact and a question with all that only one of them names made the same: what one fact tells of the answer."""
    own, asked = re.findall(r"\w+", fact), re.findall(r"\w+", question)
    fillers = {*NAMES, *ITEMS}
    marks = {w: f"#{i}" for i, w in enumerate(w for w in asked if w in own and w in fillers)}
    words = [marks.get(w, "other" if w in fillers else w) for w in (*own, "|", *asked)]
    return " ".join(words)


def test_no_single_fact_with_the_question_gives_the_answer_of_two_hops():
    seen: dict[str, list[bool]] = {}
    for riddle in riddles("two_hops", 30_000):
        story, _, question = riddle.prompt.rpartition(". ")
        for fact in story.split(". "):
            seen.setdefault(seen_from_the_question(fact, question), []).append(riddle.holds)
    often = {what: answers for what, answers in seen.items() if len(answers) >= 300}
    assert len(often) == 36, "6 attributes x 6 ways in which a fact can meet a question"
    for what, answers in often.items():
        share = sum(answers) / len(answers)
        assert abs(share - 0.5) < 4.5 * 0.5 / len(answers) ** 0.5, (what, share, len(answers))


def test_the_planted_shortcut_is_seen_by_these_means():
    """A chain of three asked about its ends: one fact about an end says who is on top, and counting shows it."""
    answers = Counter()
    rng = Random(0)
    for _ in range(1000):
        a, b, c = rng.sample(NAMES, 3)
        top_first = rng.random() < 0.5
        question = f"Is {a if top_first else c} taller than {c if top_first else a}?"
        answers[seen_from_the_question(f"{a} is taller than {b}", question), top_first] += 1
    assert len(answers) == 2, "the fact's view decides"


@pytest.mark.parametrize("kind", KINDS)
def test_rationales_follow_from_the_prompt_and_say_no_answer(kind):
    for riddle in riddles(kind, 500):
        assert not re.search(r"\b(yes|no)\b", riddle.rationale.lower())
        assert all(fact.removesuffix(".") in riddle.prompt for fact in riddle.facts)
        assert len(riddle.facts) == len(riddle.decomposition) == (1 if kind == "one_hop" else 2)
        question = re.split(r"(?<=[.]) ", riddle.prompt)[-1]
        assert solve(f"{riddle.rationale} {question}") == riddle.holds, "the rationale is enough to answer"
        assert set(re.findall(r"\w+", riddle.rationale)) <= {*re.findall(r"\w+", riddle.prompt), *OPPOSITES}


@pytest.mark.parametrize(
    ("completion", "answer", "where"),
    [
        ("Yes", "Yes", "Yes"),
        (" no.\nand more", "No", "no"),
        ("YES .", "Yes", "YES"),
        ("\n\nNo\n", "No", "No"),
        ("Ben has the dog. So the answer is Yes.", "Yes", "Yes"),
        ("No rain falls. Yes, really. The answer is no", "No", "no"),
        ("So the answer is\nyes. ", "Yes", "yes"),
    ],
)
def test_said_takes_a_bare_answer_or_an_ending(completion, answer, where):
    found = said(completion)
    assert found is not None
    assert found.answer == answer
    assert completion[found.start : found.end] == where


@pytest.mark.parametrize(
    "completion",
    ["", " ", "Yes, I think.", "No way", "Yesterday", "yes no", "The answer is yes, I think.", "the answer is nothing",
     "So the answer is yes. Or not.", "Answer: no", "Yes\nThe answer is no."],
)  # fmt: skip
def test_anything_else_is_unparsed_and_never_no(completion):
    assert said(completion) is None
    no = next(e for e in TASK.search() if e.answer == "No")
    assert TASK.score(no, completion) == 0
    assert TASK.details(no, completion)["unparsed"] == 1
    assert TASK.details(no, completion)["said_yes"] == 0


def test_lenient_takes_one_answer_in_any_format():
    assert committed_to("Yes, I think.") == "Yes"
    assert committed_to("No rain. The answer is yes, I think.") == "Yes"
    assert committed_to("yes or no") is None
    assert committed_to("nothing yesterday") is None
    assert said("Yes") == Said("Yes", 0, 3)


def test_a_rationale_answer_scores_and_a_file_replaces_the_rationale(tmp_path):
    example, other = TASK.search()[:2]
    assert TASK.rationale(example) == example.data.rationale != ""
    assert TASK.rationale_answer(example) == f"{example.data.rationale} So the answer is {example.answer}."
    assert all(TASK.score(e, TASK.rationale_answer(e)) == 1 for e in TASK.search())
    file = tmp_path / "told.jsonl"
    train = TASK.train()[0]
    rows = [{"key": example.key, "rationale": "Because.", "weight": 2}, {"key": train.key, "rationale": "So it is."}]
    file.write_text("\n".join(map(json.dumps, rows)))
    task = StrategyQaTask(rationales=str(file))
    assert task.rationale_answer(example) == f"Because. So the answer is {example.answer}."
    assert (task.rationale_weight(example), task.rationale_weight(train), TASK.rationale_weight(example)) == (2, 1, 1)
    assert task.rationale(other) == ""
    assert task.rationale_answer(other) == f"So the answer is {other.answer}."


def test_baselines_by_hand_and_bad_fields():
    search = TASK.search()
    yes = sum(e.answer == "Yes" for e in search) / len(search)
    assert TASK.chance == 0.5
    assert TASK.baselines()["constant"] == pytest.approx(yes)
    assert set(TASK.baselines()) == {"constant", "majority", "constant.one_hop", "constant.two_hops"}
    with pytest.raises(ValueError, match="test_size=0 must lie between"):
        StrategyQaTask(test_size=0)
    with pytest.raises(ValueError, match="leave it off"):
        StrategyQaTask(facts_in_prompt=True)
    with pytest.raises(ValueError, match="max_new_tokens=2"):
        StrategyQaTask(max_new_tokens=2)
    with pytest.raises(ValueError, match="train_size=-1"):
        StrategyQaTask(data="some.json", train_size=-1)
