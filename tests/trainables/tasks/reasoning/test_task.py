"""Format and skill, chance, baselines and the base's limits, on questions whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")

from tests.support.reasoning_kit import plant
from trainables.tasks.reasoning.task import ReasoningTask

SMALL = {"train_size": 40, "search_size": 10, "test_size": 10}


def details(task, example, said):
    return tuple(task.details(example, said)[name] for name in ("lenient", "unparsed"))


def test_a_right_answer_in_another_format_is_lenient_only():
    task = ReasoningTask("rg:chain_sum+syllogism+spell_backward", **SMALL)
    number, yes_or_no, word = task.search()[:3]
    right = number.answer
    for said in (f"The sum is {right}.", f"1 + 1 = {right}", f"**{right}**", f"3 steps. So the answer is {right}!"):
        assert task.score(number, said) < 1
        assert details(task, number, said) == (1, 0), said
    assert details(task, number, "I do not know.") == (0, 1)
    assert details(task, number, f"{right}1")[0] < 1
    right, wrong = ("Yes", "No") if yes_or_no.answer == "Yes" else ("No", "Yes")
    assert details(task, yes_or_no, f"{right}, it follows.") == (1, 0)
    assert details(task, yes_or_no, f"{right} or {wrong}?")[0] < 1, "naming both is no answer"
    assert details(task, yes_or_no, f"I said {wrong}. The answer is {right.lower()}.") == (1, 0)
    assert details(task, word, f'Backward it is "{word.answer}".') == (1, 0)
    assert task.score(word, f'Backward it is "{word.answer}".') < 0.5


def test_chance_and_baselines_by_hand(monkeypatch):
    """Answers are a, a, b, a, a, b ...; the verifier gives b half a point wherever a is right."""

    def entry(self, index):
        return {"question": f"Which is number {index}, b or a?", "answer": "aab"[index % 3], "metadata": {}}

    def score(self, answer, entry):
        return 1.0 if answer == entry["answer"] else 0.5 * (answer == "b")

    plant(monkeypatch, "letters", __getitem__=entry, score_answer=score)
    task = ReasoningTask("rg:letters", **SMALL)
    share = sum(example.answer == "a" for example in task.search()) / 10
    assert 0 < share < 1
    found = task.baselines()
    assert found["constant"] == found["majority"] == found["constant.letters"] == pytest.approx(share)
    assert found["copy"] == pytest.approx(0.5 * share + (1 - share)), "b is named first"
    assert task.chance == pytest.approx(share * 0.75 + (1 - share) * 0.5)


def test_a_constant_that_is_never_listed_and_gets_a_share_of_every_point_is_a_baseline(monkeypatch):
    """Listed are even numbers, each once; the verifier gives "1" three tenths, wherever it stands."""
    plant(monkeypatch, "shares", score_answer=lambda self, said, e: 1.0 if said == e["answer"] else 0.3 * (said == "1"))
    found = ReasoningTask("rg:shares", **SMALL).baselines()
    assert found["constant"] == found["majority"] == 0
    assert found["best_constant"] == pytest.approx(0.3)


def test_without_few_answers_chance_is_nothing(monkeypatch):
    plant(monkeypatch, "doubles")
    task = ReasoningTask("rg:doubles", **SMALL)
    assert task.chance == 0
    assert task.baselines()["copy"] == pytest.approx(sum(e.answer == "0" for e in task.search()) / 10)


@dataclass
class Characters:
    """A base that reads so many characters."""

    limit: float

    def is_too_long(self, example, more):
        return len(example.prompt) + len(example.answer) + more > self.limit

    def answer(self, example):
        return len(example.answer)


def test_completions_are_as_long_as_the_longest_answer_and_long_questions_are_refused():
    task = ReasoningTask("rg:spell_backward", **SMALL)
    longest = max(len(e.answer) for split in ("train", "search", "test") for e in task.split(split))
    assert task.fitted([Characters(1000)]).max_new_tokens == longest + 8
    assert ReasoningTask("rg:spell_backward", max_new_tokens=3, **SMALL).fitted([]).max_new_tokens == 3
    with pytest.raises(
        ValueError, match=r"60 of 60 questions \(of spell_backward\) exceed the base's 20 tokens; shorten"
    ):
        task.fitted([Characters(20)])


def test_the_instruction_ends_every_prompt_or_is_left_out():
    assert all(e.prompt.endswith("\nSay it.") for e in ReasoningTask("rg:gcd", instruction="Say it.", **SMALL).test())
    bare = ReasoningTask("rg:leg_counting", instruction="", **SMALL).test()[0]
    assert bare.prompt == bare.data["question"].strip()


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"search_size": 1}, r"search_size=1 is below 2 \(one of each generator\); give 2 or more"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1 is below 0; give 0 or more"),
    ],
)
def test_sizes_out_of_range_are_refused(field, told):
    with pytest.raises(ValueError, match=f"^{told}$"):
        ReasoningTask("rg:gcd+lcm", **(SMALL | field))


def test_the_version_is_part_of_every_key():
    from importlib.metadata import version

    assert ReasoningTask("rg:gcd", **SMALL).test()[0].key.startswith(f"gcd/{version('reasoning-gym')}/")
