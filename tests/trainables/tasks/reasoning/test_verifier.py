"""Scores are the generators' own; verifiers that are wrong, or that run answers as code, are refused."""

from __future__ import annotations

import pytest

pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")

from reasoning_gym import create_dataset

from tests.support.reasoning_kit import plant
from trainables.tasks.reasoning.task import ReasoningTask
from trainables.tasks.reasoning.verifier import verified

SMALL = {"train_size": 6, "search_size": 6, "test_size": 6}
NAMES = [
    "chain_sum",
    "leg_counting",
    "spell_backward",
    "syllogism",
    "lcm",
    "count_bits",
    "base_conversion",
    "word_sorting",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_score_is_the_generators_own(name):
    task, own = ReasoningTask(f"rg:{name}", **SMALL), create_dataset(name, seed=0)
    for example in (*task.train(), *task.search(), *task.test()):
        right = example.answer
        for said in (right, f"{right}.", f"The answer is {right}.", right[:-1], "7", "Yes", "", right.upper()):
            score = min(1.0, own.score_answer(said, example.data))  # a sum of letters' shares may be rounded up
            assert task.score(example, said) == score
            assert task.score(example, f" {said}\n") == score, "space around is no fault"


def test_an_answer_at_which_a_verifier_fails_scores_nothing():
    task = ReasoningTask("rg:prime_factorization", **SMALL)
    with pytest.raises(ValueError, match="invalid literal"):
        create_dataset("prime_factorization", seed=0).score_answer("two", task.search()[0].data)
    assert task.score(task.search()[0], "two") == 0


@pytest.mark.parametrize("name", ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"])
def test_a_generator_that_lists_no_answer_is_refused(name):
    with pytest.raises(ValueError, match=rf"^rg:{name} lists no answer to .*; leave this generator out$"):
        ReasoningTask(f"rg:{name}", **SMALL).train()


def test_a_verifier_that_disbelieves_the_listed_answer_is_refused(monkeypatch):
    plant(monkeypatch, "strict", score_answer=lambda self, answer, entry: 0.9)
    with pytest.raises(ValueError, match=r"rg:strict lists the answer '\d+' to .*, and its verifier gives it 0\.90;"):
        ReasoningTask("rg:strict", **SMALL).train()


def test_a_verifier_that_believes_nonsense_is_refused(monkeypatch):
    """The package's own `game_of_life_halting` does: it compares whether answers are empty."""
    plant(monkeypatch, "gullible", score_answer=lambda self, answer, entry: float(bool(answer)))
    for name in ("gullible", "game_of_life_halting"):
        with pytest.raises(ValueError, match=rf"rg:{name} has a verifier that gives 1\.00 to the answer 'xyzzy"):
            ReasoningTask(f"rg:{name}", **SMALL).train()


def test_a_verifier_that_believes_one_answer_to_everything_is_refused(monkeypatch):
    """The package's own `coin_flip` does: "0" begins like every right answer."""
    plant(monkeypatch, "prefix", score_answer=lambda self, said, entry: float(said in ("0", entry["answer"])))
    for name in ("prefix", "coin_flip"):
        with pytest.raises(
            ValueError, match=rf"^rg:{name} has a verifier that gives \d\.\d\d on average to '0', though"
        ):
            ReasoningTask(f"rg:{name}", **SMALL).fitted([])


def test_a_verifier_that_believes_the_commonest_answer_everywhere_is_refused(monkeypatch):
    def entry(self, index):
        return {"question": f"Where does {index} belong?", "answer": "right" if index % 4 else "left", "metadata": {}}

    plant(
        monkeypatch,
        "sides",
        __getitem__=entry,
        score_answer=lambda self, said, entry: float(said == "right" or said == entry["answer"]),
    )
    with pytest.raises(ValueError, match=r"^rg:sides has a verifier that gives 1\.00 on average to 'right', though"):
        ReasoningTask("rg:sides", **SMALL).fitted([])


def test_a_process_that_draws_the_questions_again_scores_none_of_them_with_constants(monkeypatch):
    asked = []

    def score(self, said, entry):
        asked.append(said)
        return float(said == entry["answer"])

    plant(monkeypatch, "counted", score_answer=score)
    ReasoningTask("rg:counted", **SMALL).train()
    assert asked
    assert not {"1", ""} & set(asked), "all listed answers are even, and no question is asked twice"


def test_a_number_that_takes_minutes_to_write_out_is_not_given_to_a_verifier(monkeypatch):
    plant(monkeypatch, "numbers", score_answer=lambda self, said, entry: float("e" in said or said == entry["answer"]))
    task = ReasoningTask("rg:numbers", **SMALL)
    assert [task.score(task.search()[0], said) for said in ("1e999", "1e3000000", "so 2.5E+9999")] == [1, 0, 0]


def test_no_answer_is_run_as_code(monkeypatch, tmp_path):
    def evaluates(self, answer, entry):
        return float(str(eval(answer)) == entry["answer"])

    plant(monkeypatch, "evaluates", score_answer=evaluates)
    with pytest.raises(ValueError, match=r"gives it 0\.00: it runs answers as Python code; leave this generator out$"):
        ReasoningTask("rg:evaluates", **SMALL).train()
    code = f"open({str(tmp_path / 'planted')!r}, 'w').write('x')"
    for name in ("string_insertion", "countdown", "polynomial_multiplication"):  # which evaluate answers, too
        dataset = create_dataset(name, seed=0)
        assert verified(dataset, dataset[0], code) < 0.5
    assert not (tmp_path / "planted").exists()
    assert eval("1 + 1") == 2, "elsewhere nothing has changed"
