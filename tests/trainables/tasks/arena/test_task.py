"""The arena: one right answer each (by a solver that only reads the text), splits that never meet, strict scoring."""

import re
import subprocess
import sys
from itertools import permutations
from random import Random

import pytest

from trainables.core import Example
from trainables.tasks.arena.kinds import KINDS
from trainables.tasks.arena.numbers import progressions
from trainables.tasks.arena.task import BUCKETS, ArenaTask, baselines, bucket, lenient_answer

SMALLER = "shorter younger slower lighter poorer weaker shortest youngest slowest lightest poorest weakest".split()  # noqa: SIM905


def solve_comparison(text: str) -> set[str]:
    """Every order of the people that fits the facts names the one asked for."""
    facts = re.findall(r"(\w+) is (\w+) than (\w+)\.", text)
    above = [(b, a) if word in SMALLER else (a, b) for a, word, b in facts]
    people = sorted({name for pair in above for name in pair})
    asked = re.search(r"Who is the (\w+)\?", text).group(1)
    orders = (o for o in permutations(people) if all(o.index(a) < o.index(b) for a, b in above))
    return {order[-1 if asked in SMALLER else 0] for order in orders}


def solve_sequence(text: str) -> set[str]:
    """Return the next number by each rule that fits the four numbers."""
    a, b, c, d = map(int, re.findall(r"\d+", text))
    found = set()
    if d - c == b - a:  # two steps in turns, which may be equal
        found.add(d + c - b)
    if c == a + b and d == b + c:
        found.add(c + d)
    return {str(number) for number in found}


def solve_causal(text: str) -> set[str]:
    """Follow the arrows."""
    arrows = re.findall(r"(\w+) causes (\w+)", text.split(". ")[0])
    after, before = dict(arrows), {b: a for a, b in arrows}
    assert len(after) == len(before) == len(arrows), "every event has one cause and one effect at most"

    def end(event: str, step: dict[str, str]) -> str:
        return end(step[event], step) if event in step else event

    if found := re.search(r"What does (\w+) lead to in the end", text):
        return {end(found.group(1), after)}
    if found := re.search(r"Where does (\w+) come from at first", text):
        return {end(found.group(1), before)}
    if found := re.search(r"If (\w+) is prevented", text):
        lost, event = [], found.group(1)
        while event in after:
            event = after[event]
            lost.append(event)
        return set(lost)
    return {before[re.search(r"What causes (\w+) directly", text).group(1)]}


def solve_math(text: str) -> set[str]:
    a, b = map(int, re.findall(r"\d+", text))
    word = re.search(r"finds|loses|fills|shares", text).group()
    quotient, rest = divmod(a, b)
    assert word != "shares" or rest == 0
    return {str({"finds": a + b, "loses": a - b, "fills": a * b, "shares": quotient}[word])}


def solve_logic(text: str) -> set[str]:
    """Every way to share out the items that fits the clues."""
    names = re.match(r"(\w+), (\w+) and (\w+) have", text).groups()
    items = re.search(r": (\w+), (\w+), (\w+)\.", text).groups()
    clues = re.findall(r"(\w+) (has|does not have) the (\w+)\.", text)
    asked = re.search(r"does (\w+) have\?$", text).group(1)
    grids = [dict(zip(names, shuffled, strict=True)) for shuffled in permutations(items)]
    fits = [grid for grid in grids if all((grid[who] == what) == (verb == "has") for who, verb, what in clues)]
    return {grid[asked] for grid in fits}


SOLVERS = {
    "comparison": solve_comparison,
    "sequence": solve_sequence,
    "causal": solve_causal,
    "math": solve_math,
    "logic": solve_logic,
}
CHAIN = "Ann is taller than Ben. Ben is taller than Eva. Who is the tallest?"
QUESTION = Example(CHAIN, "Ann", "comparison", "k", data=("Ann", "Ben", "Eva"))
NUMBER = Example("Ann has 7 nuts and finds 5 more. How many nuts does Ann have now?", "12", "math", "k", data=())


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_has_exactly_one_right_answer(kind):
    rng = Random(f"test/{kind}")
    topics = set()
    for _ in range(1500):
        question = KINDS[kind].draw(rng)
        assert SOLVERS[kind](question.prompt) == {question.answer}, question.prompt
        assert question.slip != question.answer
        assert question.slip in re.findall(r"\w+", question.prompt)
        assert 0 <= question.difficulty <= 1
        assert not question.candidates or question.answer in question.candidates
        topics.add(question.topic)
    assert topics == set(KINDS[kind].topics)


def test_the_stated_numbers_of_questions():
    counts = {name: kind.questions() for name, kind in KINDS.items()}
    assert counts == {
        "comparison": 2_972_160, "sequence": 29_368, "causal": 15_240_960, "math": 44_480, "logic": 15_552_000,
    }  # fmt: skip
    assert min(counts.values()) >= 10_000


def test_math_and_sequence_counts_are_those_of_the_questions_themselves():
    math_pairs = sum(1 for a in range(2, 31) for b in range(2, 10))  # gain
    math_pairs += sum(1 for a in range(3, 31) for b in range(2, 10) if a > b)  # lose
    assert KINDS["math"].questions() == 10 * 8 * (math_pairs + 64 + 64)
    shown = [terms[:4] for rows in progressions().values() for terms in rows]
    assert len(set(shown)) == len(shown), "no two sequences look alike"
    assert KINDS["sequence"].questions() == 4 * len(shown)


def test_keys_do_not_depend_on_the_order_of_the_people():
    rng, keys = Random(3), {}
    for _ in range(4000):
        question = KINDS["comparison"].draw(rng)
        people = frozenset(question.entities)
        assert keys.setdefault((question.topic, people), question.entities) == question.entities


def test_splits_are_disjoint_by_key_for_every_seed():
    keys = {name: set() for name in BUCKETS}
    for seed in (0, 1):
        task = ArenaTask(seed=seed)
        for split in ("train", "search", "test"):
            keys[split] |= {example.key for example in task.split(split)}
    assert not keys["train"] & keys["search"]
    assert not keys["train"] & keys["test"]
    assert not keys["search"] & keys["test"]
    assert all(bucket(key) == split for split in keys for key in keys[split])


def test_sizes_distinct_questions_and_balance():
    task = ArenaTask(train_size=101, search_size=50, test_size=100)
    for split, size in (("train", 101), ("search", 50), ("test", 100)):
        rows = task.split(split)
        assert len(rows) == len({e.prompt for e in rows}) == size
        per_kind = [sum(e.kind == kind for e in rows) for kind in KINDS]
        assert max(per_kind) - min(per_kind) <= 1
        assert [e.kind for e in rows[:5]] == list(KINDS), "kinds take turns"
    assert {e.kind for e in ArenaTask(kinds=("logic",)).search()} == {"logic"}
    assert ArenaTask(test_size=40).test() == ArenaTask(test_size=60).test()[:40]


def test_the_same_fields_give_the_same_examples_in_another_process():
    code = "from trainables.tasks.arena.task import ArenaTask\n"
    code += "print([(e.prompt, e.key) for e in ArenaTask(seed=7).search()])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str([(e.prompt, e.key) for e in ArenaTask(seed=7).search()])
    assert ArenaTask(seed=7).search() != ArenaTask(seed=8).search()


@pytest.mark.parametrize(
    ("example", "completion", "strict", "lenient", "unparsed"),
    [
        (QUESTION, "Ann", 1, 1, 0),
        (QUESTION, " ann. ", 1, 1, 0),
        (QUESTION, "\nANN\nbecause she is taller than Ben", 1, 0, 0),  # the first line counts, the whole text names two
        (QUESTION, "Ann\nAnn is the tallest", 1, 1, 0),
        (QUESTION, "Ben", 0, 0, 0),
        (QUESTION, "The answer is Ann.", 0, 1, 1),
        (QUESTION, "Not Ben, so the answer is Ann.", 0, 1, 1),
        (QUESTION, "Ann, I think.", 0, 1, 1),
        (QUESTION, "Ann, Ben, Eva", 0, 0, 1),
        (QUESTION, "The answer is Ann or Ben.", 0, 0, 1),
        (QUESTION, "Anna", 0, 0, 1),
        (QUESTION, "Ann..", 0, 1, 1),
        (QUESTION, "An", 0, 0, 1),  # truncated
        (QUESTION, "", 0, 0, 1),
        (NUMBER, "12", 1, 1, 0),
        (NUMBER, "12.", 1, 1, 0),
        (NUMBER, "7 + 5 = 12", 0, 1, 1),
        (NUMBER, "Ann has 12 nuts.", 0, 1, 1),
        (NUMBER, "1", 0, 0, 0),  # truncated: another number
        (NUMBER, "112", 0, 0, 1),
        (NUMBER, "-12", 0, 0, 1),
        (NUMBER, "12.5", 0, 0, 1),
        (NUMBER, "12 13 14", 0, 0, 1),
        (NUMBER, "twelve", 0, 0, 1),
    ],
)
def test_scores(example, completion, strict, lenient, unparsed):
    task = ArenaTask()
    assert task.score(example, completion) == strict
    assert task.details(example, completion) == {"lenient": lenient, "unparsed": unparsed}


def test_naming_every_candidate_is_no_answer():
    for example in ArenaTask().search():
        assert ArenaTask().score(example, example.answer) == 1
        assert lenient_answer(example, " ".join(example.data or ("1", "2"))) is None


def test_baselines_by_hand():
    def row(kind, answer, prompt, data=()):
        return Example(prompt, answer, kind, "k", data=data)

    train = [row("math", "3", "1 2"), row("math", "3", "4 1"), row("logic", "cat", "dog cat", ("cat", "dog"))]
    search = [
        row("math", "3", "3 or 4"), row("math", "5", "4 1"),
        row("logic", "dog", "dog cat", ("cat", "dog")), row("logic", "cat", "dog cat", ("cat", "dog")),
    ]  # fmt: skip
    assert baselines(train, search) == {
        "constant": 0.25, "majority": 0.5, "copy": 0.5, "constant.math": 0.5, "constant.logic": 0.5,
    }  # fmt: skip


def test_chance_is_one_over_the_admissible_answers():
    assert ArenaTask(kinds=("logic",)).chance == pytest.approx(1 / 3)
    assert ArenaTask(kinds=("math",)).chance == pytest.approx(1 / 100)
    task = ArenaTask()
    assert set(task.baselines()) == {"constant", "majority", "copy", *(f"constant.{kind}" for kind in KINDS)}
    assert 0.1 < task.chance < 0.25
    assert max(task.baselines().values()) < 0.25


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kinds": ("logic", "poetry")}, "poetry"),
        ({"kinds": ()}, "kinds"),
        ({"test_size": 0}, "test_size=0"),
        ({"train_size": 5001}, "5000"),
        ({"max_new_tokens": 1}, "max_new_tokens=1"),
    ],
)
def test_bad_fields_name_the_value_and_the_bound(fields, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        ArenaTask(**fields)
