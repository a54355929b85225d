"""`espalier rationales`: what is asked, what is kept, what it weighs, and going on. A real server, a real model."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from sweeps.commands.endpoint.answer_cache import FILE
from sweeps.commands.rationales.command import RationaleOptions, instructions, rationales
from tests.support.endpoint_kit import Server, reasoner, save_base
from tests.support.rationales_kit import TASK, knows, lines
from trainables.bad_input import BadInput
from trainables.tasks.strategyqa.task import StrategyQaTask, parse_answer

WRONG = {"Yes": "No", "No": "Yes"}


@dataclass(frozen=True)
class Flipped(StrategyQaTask):
    """Equal questions with the opposite answers."""

    def train(self):
        return [replace(example, answer=WRONG[example.answer]) for example in super().train()]


@pytest.fixture(scope="module")
def base():
    return reasoner()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = Server()
    yield made
    made.close()


def test_a_model_that_samples_makes_a_file_that_the_task_takes(tmp_path, server, base, capsys):
    """A model that says No twice as often as Yes: what is kept is skewed, and weights bring the shares back."""
    server.base = base
    to, pairs = tmp_path / "rationales.jsonl", tmp_path / "pairs.jsonl"
    rationales(
        to,
        TASK,
        RationaleOptions(teacher=server.url, model="mini", samples=3, temperature=1.0, max_tokens=24, pairs=pairs),
    )
    gold, rows = {e.key: e.answer for e in TASK.train()}, lines(to)
    assert 6 < len(rows) == len({row["key"] for row in rows}) <= 24
    kept = Counter(row["answer"] for row in rows)
    for row in rows:
        assert row["answer"] == gold[row["key"]], "only what concludes right"
        assert row["weight"] == pytest.approx(0.5 / (kept[row["answer"]] / len(rows)))
        assert row["source"] == "teacher mini"
        assert re.match(r"(salt|snow|water) is white", row["rationale"])
        assert "answer" not in row["rationale"]
    printed = capsys.readouterr().out
    for answer in ("Yes", "No"):
        counts = re.search(rf"^{answer}: (\d+) kept, (\d+) wrong, (\d+) unparsed", printed, re.MULTILINE)
        numbers = [int(text) for text in counts.groups()]
        assert (numbers[0], sum(numbers)) == (kept[answer], 12), "each question has one fate"
    for row in lines(pairs):
        assert parse_answer(row["chosen"]).answer == gold[row["key"]]
        assert parse_answer(row["rejected"]).answer == WRONG[gold[row["key"]]]
    assert len(lines(pairs)) > 2
    task = replace(TASK, rationales=str(to))
    example = next(e for e in task.train() if e.key == rows[0]["key"])
    assert task.rationale_answer(example) == f"{rows[0]['rationale']} So the answer is {example.answer}."
    assert task.rationale_weight(example) == rows[0]["weight"]


def test_the_answer_is_in_no_prompt(tmp_path, server):
    """The requests to the server do not depend on the answers, to the byte, so they leak none."""
    server.says = knows
    rationales(tmp_path / "one/r.jsonl", TASK, RationaleOptions(teacher=server.url, model="mini", samples=1, workers=1))
    first, server.chats = server.chats, []
    with pytest.raises(BadInput, match=r"no kept rationale concludes .*: raise --samples"):
        rationales(
            tmp_path / "two/r.jsonl",
            Flipped(train_size=24),
            RationaleOptions(teacher=server.url, model="mini", samples=1, workers=1),
        )
    assert json.dumps(server.chats) == json.dumps(first)
    assert len(first) == 24
    for example, body in zip(TASK.train(), first, strict=True):
        system, user = body["messages"]
        assert (user["role"], user["content"]) == ("user", example.prompt)
        assert (system["role"], system["content"]) == ("system", instructions(4)), "the same for every question"
        rest = json.dumps(body).replace(json.dumps(instructions(4)), "").replace(json.dumps(example.prompt), "")
        assert not re.search(r"\b(yes|no|true|false)\b", rest, re.IGNORECASE)
        assert example.data.rationale not in rest


def test_what_is_there_is_not_made_again(tmp_path, server):
    """A second run asks nothing, and one with more samples only for what is missing."""
    poor = [e.prompt for e in TASK.train()][:6]
    server.says = lambda messages: "perhaps." if messages[-1]["content"] in poor else knows(messages)
    to = tmp_path / "r.jsonl"
    rationales(to, TASK, RationaleOptions(teacher=server.url, model="mini", samples=1))
    rows = lines(to)
    assert len(rows) == 18
    rationales(to, TASK, RationaleOptions(teacher=server.url, model="mini", samples=1))
    assert (len(server.chats), lines(to)) == (24, rows)
    server.says, server.chats = knows, []
    rationales(to, TASK, RationaleOptions(teacher=server.url, model="mini", samples=3))
    assert Counter(body["messages"][-1]["content"] for body in server.chats) == dict.fromkeys(poor, 1)
    assert len(lines(to)) == 24
    assert {row["weight"] for row in lines(to)} == {1.0}
    with pytest.raises(BadInput, match=r"r\.jsonl holds rationales of teacher mini; give a new file"):
        rationales(to, TASK, RationaleOptions(base="builtin:tiny"))


def test_an_answer_that_is_lost_is_not_made_up_for(tmp_path, server, capsys):
    server.says = lambda messages: "It is not so. So the answer is No."
    to = tmp_path / "r.jsonl"
    with pytest.raises(
        BadInput, match=r"no kept rationale concludes 'Yes', of 12 questions; .*: raise --samples .*is not written"
    ):
        rationales(to, TASK, RationaleOptions(teacher=server.url, model="mini", samples=2))
    printed = capsys.readouterr().out
    assert "Yes: 0 kept, 12 wrong, 0 unparsed" in printed
    assert "No: 12 kept, 0 wrong, 0 unparsed" in printed
    assert not to.exists()
    server.says = knows
    rationales(to, TASK, RationaleOptions(teacher=server.url, model="mini", samples=3))
    assert len(lines(to)) == 24, "the same command with more samples goes on"


def test_what_it_costs_is_shown_and_bounded(tmp_path, server, capsys):
    server.says = knows
    prices = {"price_in": 10.0, "price_out": 100.0}
    with pytest.raises(BadInput, match=r"is spent on mini, .* raise it: answers are kept"):
        rationales(
            tmp_path / "r.jsonl",
            TASK,
            RationaleOptions(teacher=server.url, model="mini", **prices, max_tokens=50, max_cost=0.03, workers=1),
        )
    asked = len(server.chats)
    assert 3 < asked < 24
    rationales(
        tmp_path / "r.jsonl",
        TASK,
        RationaleOptions(teacher=server.url, model="mini", **prices, max_tokens=50, max_cost=1.0),
    )
    assert len(server.chats) == 24, "of what was paid for nothing is asked again"
    words = sum(len(one["content"].split()) for body in server.chats for one in body["messages"])
    dollars = (words * 10 + sum(len(knows(body["messages"]).split()) for body in server.chats) * 100) / 1e6
    assert f"spent on mini: ${dollars:.4f}" in capsys.readouterr().out


def test_a_base_in_its_own_words(tmp_path, base, capsys):
    """Without a server. Equal seeds give equal files; more questions sample only the new ones."""
    name = save_base(base, tmp_path / "base")
    own = {"base": name, "samples": 2, "temperature": 1.0, "max_tokens": 24}
    rationales(tmp_path / "a/r.jsonl", TASK, RationaleOptions(**own, pairs=tmp_path / "a/p.jsonl"))
    rationales(tmp_path / "b/r.jsonl", TASK, RationaleOptions(**own, pairs=tmp_path / "b/p.jsonl"))
    rows = lines(tmp_path / "a/r.jsonl")
    assert rows == lines(tmp_path / "b/r.jsonl")
    assert lines(tmp_path / "a/p.jsonl") == lines(tmp_path / "b/p.jsonl")
    gold = {e.key: e.answer for e in TASK.train()}
    assert all(row["answer"] == gold[row["key"]] and row["source"] == f"self {name}" for row in rows)
    rationales(tmp_path / "c/r.jsonl", TASK, RationaleOptions(**own | {"seed": 1}))
    assert lines(tmp_path / "c/r.jsonl") != rows, "another seed, other samples"
    capsys.readouterr()

    def kept():
        with sqlite3.connect(tmp_path / "a" / FILE) as file:
            return dict(file.execute("select hash, text from answers"))

    before = kept()
    rationales(tmp_path / "a/r.jsonl", StrategyQaTask(train_size=32), RationaleOptions(**own | {"samples": 1}))
    after = kept()
    assert after.items() >= before.items()
    assert len(after) == len(before) + 8
    assert "8 of 8" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give either --teacher URL"),
        ({"base": "builtin:tiny", "teacher": "http://localhost:1/v1", "model": "m"}, "give either"),
        ({"teacher": "http://localhost:1/v1"}, "go together"),
        ({"teacher": "localhost:1", "model": "m"}, "must be an address such as"),
        ({"base": "builtin:tiny", "temperature": 0.0}, "every sample would be the same"),
        ({"base": "builtin:huge"}, "'builtin:huge' is not built in"),
        ({"base": "builtin:tiny", "adapter": "here"}, "holds no PEFT adapter"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, given, told):
    if "adapter" in given:
        given = given | {"adapter": tmp_path}
    with pytest.raises(BadInput, match=told) as error:
        rationales(tmp_path / "r.jsonl", TASK, RationaleOptions(**given))
    assert "\n" not in str(error.value)
