"""Every guard finds its planted fault, says where it is, and lets the tasks of the house pass."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from search_spaces.space import Space
from sweeps.arena import SWEEP as ARENA
from sweeps.results.leaderboard import markdown
from sweeps.results.statistics import smallest_difference
from sweeps.spec.sweep import Sweep
from sweeps.tuning.session import check
from tests.support.towns import TOWNS, Towns, town
from tests.support.toys import ToyConfig
from trainables.bad_input import BadInput
from trainables.checks.guards import inspect
from trainables.core import Example, Pair
from trainables.tasks.arc.task import ArcTask
from trainables.tasks.arena.task import ArenaTask

RIVERS = ("rhine", "elbe", "spree", "oder", "main", "isar", "saale", "weser")


def told_long(example: Example) -> Example:
    """Return the example with forty words of its own in front."""
    number = example.key.split("/")[1]
    return replace(example, prompt=" ".join(f"{number}-{i}" for i in range(40)) + " " + example.prompt)


SOUND = Towns()
TRAIN, SEARCH = SOUND.train(), SOUND.search()
PLANTED = {
    "a key in two splits": (
        SOUND.with_split("search", [replace(SEARCH[0], key="town/5"), *SEARCH[1:]]),
        "overlap",
        ["train and search", "key 'town/5'"],
    ),
    "a prompt in other letters": (
        SOUND.with_split("test", [*SOUND.test(), replace(TRAIN[9], key="x", prompt=TRAIN[9].prompt.upper() + " !")]),
        "overlap",
        ["train and test", "key 'town/9'", "key 'x' ('TOWN 9"],
    ),
    "a word added to long prompts": (
        SOUND.with_split("search", [*map(told_long, SEARCH[:3]), *SEARCH[3:]]).with_split(
            "train",
            [
                *TRAIN,
                *(replace(told_long(e), key=f"z/{e.key}", prompt=f"Say: {told_long(e).prompt}") for e in SEARCH[:3]),
            ],
        ),
        "near_duplicates",
        ["3 of 100 search prompts", "key 'z/town/100' ('Say: 100-0", "key 'town/100'"],
    ),
    "words around a question": (
        SOUND.with_split("test", [replace(e, key=f"p/{e.key}", prompt=f"Please tell me: {e.prompt}") for e in TRAIN]),
        "near_duplicates",
        ["100 of 100 test prompts are nearly in train", "key 'p/town/0' ('Please tell me: Town 0"],
    ),
    "less of a question": (
        SOUND.with_split("test", [replace(e, key=f"p/{e.key}", prompt=" ".join(e.prompt.split()[:10])) for e in TRAIN]),
        "near_duplicates",
        ["100 of 100 test prompts are nearly in train"],
    ),
    "the search's questions again": (
        SOUND.with_split("test", [replace(e, key=f"p/{e.key}", prompt=f"{e.prompt} Thank you.") for e in SEARCH]),
        "near_duplicates",
        ["100 of 100 test prompts are nearly in search"],
    ),
    "other questions for the same long answers": (
        Towns(
            {
                split: [
                    replace(e, answer=" ".join(f"{i % 100}-{k}" for k in range(15))) for i, e in enumerate(examples)
                ]
                for split, examples in SOUND.splits.items()
            }
        ),
        "near_duplicates",
        ["100 of 100 test answers are nearly in train: key 'town/0' ('0-0 0-1"],
    ),
    "the answer behind its marker": (
        SOUND.with_split("search", [replace(e, prompt=f"{e.prompt} The answer is {e.answer}.") for e in SEARCH]),
        "answer_in_prompt",
        ["100 of 100", "take it out"],
    ),
    "the answer behind its marker, in test": (
        SOUND.with_split("test", [replace(e, prompt=f"The answer is {e.answer}. {e.prompt}") for e in SOUND.test()]),
        "answer_in_prompt",
        ["100 of 100 test prompts"],
    ),
    "the answer at the third place of test": (
        SOUND.with_split("test", [replace(e, prompt=f"So then {e.answer} {e.prompt}") for e in SOUND.test()]),
        "answer_in_prompt",
        ["word 3 of a prompt", "100% of test"],
    ),
    "the answer at the third place of four in five": (
        SOUND.with_split(
            "search",
            [replace(e, prompt=f"So then {e.answer if i % 5 else 'well'} {e.prompt}") for i, e in enumerate(SEARCH)],
        ),
        "answer_in_prompt",
        ["word 3 of a prompt", "80% of search", "take it out"],
    ),
    "the answer at the third place": (
        SOUND.with_split("search", [replace(e, prompt=f"So then {e.answer} {e.prompt}") for e in SEARCH]),
        "answer_in_prompt",
        ["word 3 of a prompt", "100% of search", "best baseline is 50%"],
    ),
    "another format": (
        SOUND.with_split("test", [replace(e, prompt=f"Question: {e.prompt}\nAnswer:") for e in SOUND.test()]),
        "prompt_format",
        ["test prompts", "'Question: Town 200", "one function"],
    ),
    "one answer only": (
        SOUND.with_split("search", [replace(e, answer="no") for e in SEARCH]),
        "label_balance",
        ["100% of search answers are 'no'"],
    ),
}


def found(task):
    return {finding.guard: finding for finding in inspect(task, smallest_difference)}


def test_a_sound_task_passes():
    assert found(SOUND) == {}


@pytest.mark.parametrize("task", [ArenaTask(), ArenaTask(seed=5, kinds=("sequence", "logic")), ArcTask()], ids=str)
def test_the_tasks_of_the_house_pass(task):
    assert set(found(task)) <= {"small_split"}, "ARC has 31 tasks to search on, and says so"


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault(name):
    task, guard, said = PLANTED[name]
    findings = found(task)
    assert guard in findings
    assert findings[guard].stops
    for words in said:
        assert words in findings[guard].what


def test_marks_that_do_not_stop():
    filtered = SOUND.with_split("search", [e for e in SEARCH if e.answer == "no"] + SEARCH[:21])
    assert not found(filtered)["label_balance"].stops
    few = found(SOUND.with_split("search", SEARCH[:24]))["small_split"]
    assert not few.stops
    assert "24 examples, which show differences from 40 points up" in few.what


def test_a_rule_of_thumb_is_told_and_stops_nothing():
    """The item of a logic grid's last clue is its answer more often than not: so the clues are, and nothing leaked."""
    for size in (250, 1000):
        rule = found(ArenaTask(kinds=("logic",), search_size=size, test_size=size))["answer_in_prompt"]
        assert not rule.stops
        assert "word 6 from the end of a prompt is the answer in 6" in rule.what
        assert rule.what.endswith("repeating it is a baseline, which the task has not")


def test_answers_that_differ_by_chance_are_no_shift():
    """Eighteen answers, drawn alike for all splits: a hundred differ from a hundred in a fifth of their mass."""
    rng = random.Random(0)
    for _ in range(5):
        drawn = {
            split: [replace(one, answer=TOWNS[rng.randrange(18)]) for one in examples]
            for split, examples in SOUND.splits.items()
        }
        assert "label_balance" not in found(Towns(drawn))
    eighth = [replace(one, answer=TOWNS[rng.randrange(8)]) for one in drawn["search"]]
    shifted = found(Towns(drawn | {"search": eighth}))["label_balance"]
    assert not shifted.stops
    assert "answers of train and search differ in" in shifted.what


TELLING = (
    "The answer is: {}",
    '"answer": "{}"',
    "label: {}",
    "So the answer should be {}.",
    "Answer ({})",
    "**Answer:** {}",
)
HARMLESS = (
    "Answer: yes or no?",
    "The answer should be Yes or No.",
    "answer: 'yes'/'no'",
    "The answer is yesterday's, noted",
)


@pytest.mark.parametrize("words", [*TELLING, *HARMLESS])
def test_an_answer_is_told_in_many_ways_and_a_choice_tells_none(words):
    told = {
        split: [replace(e, prompt=f"{e.prompt} {words.format(e.answer)}{' well' * (i % 7)}") for i, e in enumerate(own)]
        for split, own in SOUND.splits.items()
    }
    assert ("answer_in_prompt" in found(Towns(told))) == (words in TELLING)


def test_templates_and_formulas_are_no_copies():
    """Prompts that begin with the same hundred words, and an answer that is given once in twenty times."""
    rules = " ".join(f"rule {i} says {7 * i}," for i in range(25))
    sorry = "I am sorry, but as a guide to towns I cannot say anything of rivers that nobody asked about."
    told = {
        split: [
            replace(e, prompt=f"{rules} {e.prompt}", answer=sorry if i % 20 == 0 else f"{e.answer} {i}")
            for i, e in enumerate(examples)
        ]
        for split, examples in (SOUND.splits | {"train": [town(i) for i in range(300, 500)]}).items()
    }
    assert found(Towns(told)) == {}


def test_few_accidents_are_let_pass():
    """One answer in a hundred behind its marker may be chance; half of the answers named somewhere is reading."""
    once = SOUND.with_split("search", [replace(SEARCH[0], prompt=f"{SEARCH[0].prompt} Answer: yes?"), *SEARCH[1:]])
    assert "answer_in_prompt" not in found(once)
    names = [
        replace(e, answer=RIVERS[i % 8], prompt=f"{e.prompt} {RIVERS[i % 7]}, {RIVERS[i % 5]}?")
        for i, e in enumerate(SEARCH)
    ]
    assert "answer_in_prompt" not in found(SOUND.with_split("search", names))


def test_a_guard_stops_the_sweep_until_it_is_allowed():
    task, *_ = PLANTED["one answer only"]
    sweep = Sweep("towns", (Pair(ToyConfig(), task),), Space({}))
    with pytest.raises(BadInput, match=r"^guard label_balance: 100% of search .*, or pass --allow label_balance$"):
        check(sweep)
    (remark,) = check(sweep, ["label_balance"])
    assert remark.startswith("guard label_balance (allowed): 100% of search")
    assert f"- {remark}." in markdown([], {}, "towns", [remark])
    assert check(ARENA) == []
