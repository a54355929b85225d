"""The two judges: likelihoods against plain transformers, and a model behind a real server that speaks OpenAI's API."""

from __future__ import annotations

from types import SimpleNamespace

import openai
import pytest
import torch

from sweeps.commands.judging.comparisons import BlindPair, judge_all
from sweeps.commands.judging.judges import CRITERIA, LikelihoodJudge, LlmJudge, parse, question
from sweeps.commands.judging.win_rates import position_bias, win_rate
from tests.support import miniatures
from tests.support.judging_kit import chat_server
from trainables.packed.host import Host

GOOD = "\n".join(["Both are fine.", *(f"{name}: A={i % 5 + 1} B=3" for i, name in enumerate(CRITERIA))])


class Asker:
    """The judge's side of an endpoint, through the openai package."""

    model, temperature, max_tokens = "mini", 0.0, 300

    def __init__(self, url: str) -> None:
        self.client = openai.OpenAI(base_url=url, api_key="none")

    def ask_all(self, conversations):
        def text(messages):
            made = self.client.chat.completions.create(model=self.model, messages=messages, max_tokens=300)
            return made.choices[0].message.content

        return [SimpleNamespace(text=text(messages)) for messages in conversations]


def test_an_answer_in_the_asked_form_is_read():
    found = parse(f"{GOOD}\nWinner: B")
    assert found.winner == "B"
    assert found.scores["coherence"] == (2, 3)
    assert set(found.scores) == set(CRITERIA)
    assert len(CRITERIA) == 5
    assert parse(f"{GOOD}\n**Winner: Tie**").winner == "tie"
    assert parse(f"{GOOD}\nwinner: a.").winner == "A"
    assert parse(f"Winner: A\n{GOOD}\nWinner: A").winner == "A", "said twice, the same"


@pytest.mark.parametrize(
    "text",
    [
        "",
        GOOD,
        "Winner: A",
        f"{GOOD}\nWinner: C",
        f"{GOOD}\nWinner: A or B",
        f"{GOOD}\nWinner: A, B or Tie",
        f"{GOOD}\nI think that Winner: A",
        f"{GOOD}\nWinner: A\nWinner: B",
        f"{GOOD}\nWinner:",
        GOOD.replace("depth: A=3", "depth: A=6") + "\nWinner: A",
        GOOD.replace("depth: A=3", "depth: A=0") + "\nWinner: A",
        GOOD.replace("depth: A=3", "depth: A=3.5") + "\nWinner: A",
        GOOD.replace("depth: A=3 B=3", "depth: A=3") + "\nWinner: A",
        f"{GOOD}\ndepth: A=1 B=1\nWinner: A",
        question(BlindPair("p", "Winner: A", "Winner: A")),  # the question said back
    ],
)
def test_anything_else_is_unparsed_and_kept(text):
    found = parse(text)
    assert found.winner == "unparsed"
    assert found.raw == text


def test_the_question_shows_the_replies_in_their_places_and_nothing_else():
    asked = question(BlindPair([{"role": "user", "content": "Why {braces}?"}], "{first}", "second"))
    assert asked.index("Why {braces}?") < asked.index("{first}") < asked.index("second")
    assert all(f"- {name}: " in asked and f"\n{name}: A=_ B=_" in asked for name in CRITERIA)
    several = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert "system: Be brief.\nuser: Why?" in question(BlindPair(several, "a", "b"))


def prefers_the_owl(asked: str) -> str:
    """A model that always sees the better reply, wherever it stands."""
    return f"{GOOD}\nWinner: {'A' if 'owl' in asked.split('<reply-b>')[0] else 'B'}"


def test_a_model_that_is_asked_through_a_real_server(tmp_path):
    prompts = {str(i): f"prompt {i}" for i in range(6)}
    replies = {"x": ["an owl"] * 6, "y": ["a hen"] * 6}
    with chat_server(prefers_the_owl) as (url, asked):
        judge = LlmJudge(Asker(url))
        found = judge_all([judge], replies, prompts, tmp_path / "v.jsonl")
        judge_all([judge], replies, prompts, tmp_path / "v.jsonl")
    assert len(asked) == 12
    assert win_rate(found, "x").rate == 1
    assert position_bias(found).consistent == 1
    assert found[0].scores["originality"] == (2, 2), "1 as A and 3 as B"
    assert found[0].judge.startswith("llm:mini:")
    assert found[0].rulings[0].raw.endswith("Winner: A")


@pytest.mark.parametrize(
    ("says", "first_shown", "unparsed"),
    [(f"{GOOD}\nWinner: A", 1.0, 0), ("I'd rather not say. Winner: A", None, 6)],
    ids=["always A", "never in form"],
)
def test_faulty_models_are_shown_for_what_they_are(tmp_path, says, first_shown, unparsed):
    prompts = {str(i): f"prompt {i}" for i in range(6)}
    with chat_server(lambda _: says) as (url, _):
        found = judge_all([LlmJudge(Asker(url))], {"x": ["u"] * 6, "y": ["v"] * 6}, prompts, tmp_path / "v.jsonl")
    rate = win_rate(found, "x")
    assert rate.unparsed == unparsed
    if unparsed:
        assert rate.n == 0, "not a single tie"
    else:
        assert (rate.rate, position_bias(found).first_shown) == (0.5, first_shown)


def test_another_question_is_another_judge(monkeypatch):
    with chat_server(lambda _: "") as (url, _):
        judge = LlmJudge(Asker(url))
        before = judge.name
        monkeypatch.setitem(CRITERIA, "depth", "something else")
        assert judge.name != before


def test_likelihood_is_the_mean_log_probability_of_plain_transformers():
    base = miniatures.base("llama")
    host = Host(base)
    judge = LikelihoodJudge(host, margin=0.0)
    shown = [BlindPair("a b", "c d e", "f"), BlindPair("a b", "f", "c d e"), BlindPair("g", "x y z z z", "")]
    ruled = judge(shown)
    host.shut()

    def mean(prompt: str, reply: str) -> float:
        before = base.tokenizer(f"Question: {prompt}\nAnswer:").input_ids
        after = [*base.tokenizer(f" {reply}").input_ids, base.tokenizer.eos_token_id]
        logits = base.model(torch.tensor([before + after])).logits[0].log_softmax(-1)
        said = [logits[len(before) + i - 1, token].item() for i, token in enumerate(after)]
        return sum(said) / len(said)

    for one, ruling in zip(shown, ruled, strict=True):
        a, b = mean(one.prompt, one.a), mean(one.prompt, one.b)
        assert ruling.scores["mean_logprob"] == pytest.approx((a, b), abs=1e-5)
        assert ruling.winner == ("A" if a > b else "B")


def test_likelihood_has_no_favoured_place_and_a_margin(tmp_path):
    host = Host(miniatures.base("qwen2"))
    letters = "abcdefghijklmnopqrst"
    prompts = {c: c for c in letters}
    replies = {"x": [f"{c} {c} a" for c in letters], "y": [f"{c} b" for c in letters]}
    fine = judge_all([LikelihoodJudge(host, 0.0)], replies, prompts, tmp_path / "v.jsonl")
    bias = position_bias(fine)
    assert (bias.n, bias.consistent) == (20, 1)
    assert 0 < win_rate(fine, "x").wins < 20, "a miniature has no taste, but opinions"
    coarse = judge_all([LikelihoodJudge(host, 100.0)], replies, prompts, tmp_path / "v.jsonl")
    host.shut()
    assert win_rate(coarse, "x").ties == 20, "another margin is another judge, and judges anew"


def test_the_builtin_base_prefers_what_it_was_trained_on():
    from trainables.models.loading import load

    host = Host(load("builtin:tiny"))
    judge = LikelihoodJudge(host)
    ruled = judge(
        [BlindPair("What is 2 plus 3?", "5", "q z x j q z x j"), BlindPair("What is 2 plus 3?", "same", "same")]
    )
    host.shut()
    assert [one.winner for one in ruled] == ["A", "tie"]
    assert judge.name == "likelihood:builtin:tiny:0.05"
