"""cot: which rows are learned and how much each weighs; and whether an answer is seen to follow from its draft."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import torch

from tests.support.miniatures import base as miniature
from tests.support.phases_kit import SMALL, TASK, by_question, draft_of, rationale_file, text_of, tiny
from trainables.core import Completion, Read
from trainables.learners.lm.cot import CotConfig, ablated, answer_rows, shuffled
from trainables.models.tokenization import encode_prompt
from trainables.packed.solo import Solo
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.training.dialogue import run_queries

YES = [e for e in TASK.train() if e.answer == "Yes"]
NO = [e for e in TASK.train() if e.answer == "No"]


def lopsided(folder):
    """One Yes of weight 2 and three No of weight 1, of four and four."""
    file = rationale_file(folder, [YES[0], *NO[:3]], [2, 1, 1, 1])
    return StrategyQaTask(train_size=8, search_size=8, test_size=8, rationales=file)


def test_rows_are_the_questions_with_a_rationale_and_end_with_the_answer(tmp_path):
    base = tiny()
    learner = CotConfig(per_device_train_batch_size=4).build(base, lopsided(tmp_path), 0)
    rows = learner.next_rows() + learner.next_rows()
    asked = Counter(by_question(TASK.train())(text_of(base, row)).key for row in rows)
    assert asked == {e.key: 2 for e in [YES[0], *NO[:3]]}, "two passes over the four that have one"
    for row in rows:
        example = by_question(TASK.train())(text_of(base, row))
        prompt = encode_prompt(base.tokenizer, example.prompt)
        assert list(row.tokens[: len(prompt)]) == prompt, "the format in which it will be asked"
        assert row.labels == tuple(i >= len(prompt) for i in range(len(row.tokens)))
        assert row.tokens[-1] == base.eos
        said = base.tokenizer.decode(row.tokens[len(prompt) : -1]).strip()
        assert said == f"{TASK.rationale(example)} So the answer is {example.answer}."


def test_weights_give_each_label_its_share_back(tmp_path):
    """By hand: the kept weigh 2 (Yes) and 3 (No) of 5, and shall weigh half each of 4 rows: factors 1 and 2/3."""
    base = tiny()
    config = CotConfig(per_device_train_batch_size=4)
    learner = config.build(base, lopsided(tmp_path), 0)
    rows = learner.next_rows()
    logprobs, expected, tokens = [], 0.0, 0
    for place, row in enumerate(rows):
        yes = by_question(TASK.train())(text_of(base, row)).answer == "Yes"
        labels = sum(row.labels)
        logprobs.append(torch.full((labels,), -1.0 - place))
        expected += (2.0 if yes else 2 / 3) * (1 + place) * labels
        tokens += labels
    assert learner.loss(logprobs, rows).item() == pytest.approx(expected / tokens)


def test_without_a_file_every_row_weighs_one():
    learner = CotConfig(per_device_train_batch_size=4).build(tiny(), TASK, 0)
    rows = learner.next_rows()
    logprobs = [torch.linspace(-3, -1, sum(row.labels)) for row in rows]
    assert learner.loss(logprobs, rows).item() == pytest.approx(-torch.cat(logprobs).mean().item())


def test_a_lost_label_and_missing_rationales_are_refused(tmp_path):
    task = StrategyQaTask(train_size=8, rationales=rationale_file(tmp_path, NO, [1] * 4))
    with pytest.raises(
        ValueError, match=r"^no kept rationale concludes 'Yes', of 4 questions; loosen the filter[^\n]*$"
    ):
        CotConfig().build(tiny(), task, 0)
    (tmp_path / "none").mkdir()
    task = StrategyQaTask(train_size=8, rationales=rationale_file(tmp_path / "none", [*YES, *NO], [0] * 4 + [1] * 4))
    with pytest.raises(ValueError, match="no kept rationale concludes 'Yes'"):
        CotConfig().build(tiny(), task, 0)
    file = tmp_path / "bare.json"
    rows = ", ".join(f'{{"question": "Is {n} odd?", "answer": {str(n % 2 == 1).lower()}}}' for n in range(60))
    file.write_text(f"[{rows}]")
    with pytest.raises(ValueError, match=r"^none of \d+ training questions has a rationale; make some with `espalier"):
        CotConfig().build(tiny(), StrategyQaTask(data=str(file), train_size=0), 0)


def test_answers_are_compared_from_the_first_token_that_differs():
    base, example = tiny(), TASK.search()[0]
    rows = answer_rows(base.tokenizer, example, [TASK.with_answer("It is so.", a) for a in ("Yes", "No")])
    for row, answer in zip(rows, ("Yes", "No"), strict=True):
        told = [token for token, label in zip(row.tokens, row.labels, strict=True) if label]
        assert base.tokenizer.decode(told[:-1]).strip() == f"{answer}."
        assert told[-1] == base.eos
        assert row.labels == tuple(sorted(row.labels)), "all labels stand at the end"
    with pytest.raises(ValueError, match=r"tokens are the same for '.*Yes.' and '.*No.'; use another base"):
        answer_rows(miniature("qwen2").tokenizer, example, ["It is. Yes.", "It is. No."])


@pytest.mark.parametrize("count", [2, 3, 8, 51])
def test_every_draft_goes_to_another_question(count):
    drafts = [f"draft {i}" for i in range(count)]
    moved = shuffled(drafts)
    assert sorted(moved) == sorted(drafts)
    assert not any(a == b for a, b in zip(drafts, moved, strict=True))
    assert shuffled(drafts) == moved


def planted(base, likelier):
    """A base to which Yes or No is likelier behind a draft to a question: `likelier(question, draft)`, or None."""
    seen: list[str] = []

    def answer(ask):
        assert isinstance(ask, Read)
        assert not ask.untouched, "the trained model is asked, not its base"
        found = []
        for row in ask.rows:
            text = text_of(base, row)
            seen.append(draft_of(text))
            wanted = likelier(by_question(TASK.search())(text), draft_of(text))
            sure = -0.5 if wanted is None else -0.1 if f"answer is {wanted}" in text else -3.0
            found.append([sure] + [0.0] * (sum(row.labels) - 1))
        return found

    return answer, seen


def of_draft(example, draft):
    """Says whether the draft affirms or denies, and No where there is none."""
    return "Yes" if draft and not re.search(r"\bnot?\b", draft) else "No"


def ablations(likelier, completions):
    base = tiny()
    answer, seen = planted(base, likelier)
    return run_queries(ablated(TASK, base.tokenizer, "search", completions), answer), seen


def test_an_answer_that_follows_the_draft_loses_by_another_draft():
    search = TASK.search()
    found, seen = ablations(of_draft, [TASK.rationale_answer(e) for e in search])
    own = [TASK.rationale(e) for e in search]
    given = shuffled(own)
    share = sum(of_draft(e, draft) == e.answer for e, draft in zip(search, given, strict=True)) / len(search)
    assert share < 1
    assert found == {"score.own_draft": 1.0, "score.no_draft": 0.5, "score.shuffled_draft": share}
    assert seen[0::2] == seen[1::2] == [*own, *[""] * len(own), *given], "a draft ends before it concludes"


def test_an_answer_that_ignores_the_draft_is_as_good_without_it():
    found, _ = ablations(lambda example, draft: example.answer, [TASK.rationale_answer(e) for e in TASK.search()])
    assert found == {"score.own_draft": 1.0, "score.no_draft": 1.0, "score.shuffled_draft": 1.0}


def test_a_bare_answer_is_no_draft():
    """Else a shuffled "Yes." would decide the answer, and a model that never reasons would seem to."""
    _, seen = ablations(of_draft, [f"{e.answer}." for e in TASK.search()])
    assert set(seen) == {""}
    assert TASK.draft("Yes.\nBen is a girl.") == "Ben is a girl."
    assert TASK.draft("Ben is a girl. So the answer is Yes.") == "Ben is a girl."
    assert TASK.draft("No rain falls here") == "No rain falls here"


def test_neither_answer_likelier_is_no_right_answer():
    found, _ = ablations(lambda example, draft: None, [""] * len(TASK.search()))
    assert set(found.values()) == {0.0}


@pytest.mark.parametrize("ablates", [False, True])
def test_drafts_are_ablated_on_demand_in_a_host(ablates):
    base = tiny()
    config = CotConfig(**SMALL, ablate_drafts=ablates)
    learner = Solo(base, config.build(base, TASK, 0), 0)
    learner.round()
    metrics = learner.evaluate().metrics
    learner.close()
    named = {f"score.{name}" for name in ("own_draft", "no_draft", "shuffled_draft")}
    assert named & metrics.keys() == (named if ablates else set())
    assert all(0 <= metrics[name] <= 1 for name in named & metrics.keys())


def test_a_rationale_that_is_cut_off_scores_nothing():
    learner = CotConfig().build(tiny(), TASK, 0)
    search = TASK.search()
    base = tiny()
    tokens = [base.tokenizer(TASK.rationale_answer(e), add_special_tokens=False).input_ids for e in search]
    for ended, score in ((True, 1.0), (False, 0.0)):
        said = [Completion(own, ended, [-0.1] * (len(own) + ended)) for own in tokens]
        evaluation = run_queries(learner.evaluate("search"), lambda ask, said=said: said)
        assert (evaluation.score, evaluation.metrics["truncated"]) == (score, 1.0 - score)
