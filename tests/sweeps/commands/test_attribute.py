"""Where an answer comes from: planted models whose answers are read in one place, and a sweep's winner."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from sweeps.cli.main import console
from sweeps.commands.attribute import attribute as attribute_run
from sweeps.commands.attribute import drafted
from sweeps.results.run_folder import Run
from sweeps.results.tables import FINALISTS
from tests.support import miniatures
from tests.support.finished_sweep import write_finished_sweep
from trainables.bad_input import BadInput
from trainables.core import Example
from trainables.learners.lm.attribution import Parts, attribute, parts
from trainables.learners.lm.cot import CotConfig
from trainables.models.loading import load
from trainables.models.sampling import with_adapter
from trainables.tasks.strategyqa.task import StrategyQaTask

ASKED = Parts(prompt=(3, 9, 12, 4), draft=(20, 21, 22, 23, 24), conclusion=(30, 31, 32), given=7, other=8)
PLACES = {"prompt": slice(0, 4), "draft": slice(4, 9), "conclusion": slice(9, 12)}
END = 1


class Linear(torch.nn.Module):
    """Its log-odds are a weighted sum of the embeddings: `weights` (tokens, hidden_size)."""

    def __init__(self, weights):
        super().__init__()
        draws = torch.Generator().manual_seed(4)
        self.words = torch.nn.Embedding.from_pretrained(torch.randn(64, weights.shape[1], generator=draws))
        self.weights = weights

    def get_input_embeddings(self):
        return self.words

    def forward(self, inputs_embeds, **_):
        odds = (inputs_embeds * self.weights).sum((1, 2))
        logits = torch.zeros(len(odds), 1, 64)
        logits[:, 0, ASKED.given], logits[:, 0, ASKED.other] = 0.75 * odds, -0.25 * odds
        return SimpleNamespace(logits=logits)


def weights(*where):
    """Random in the places named, else 0."""
    made = torch.zeros(12, 6)
    for place in where:
        made[PLACES[place]] = 1.0
    return made * torch.randn(made.shape, generator=torch.Generator().manual_seed(5))


def test_a_linear_models_attribution_is_weight_times_distance_from_the_baseline():
    model = Linear(weights(*PLACES))
    each = (model.weights * (model.words.weight[list(ASKED.tokens)] - model.words.weight[END])).sum(1)
    got = attribute(model, ASKED, END, steps=3)
    total = float(each.abs().sum())
    wanted = {name: float(each[where].abs().sum()) / total for name, where in PLACES.items()}
    assert {name: getattr(got, f"{name}_share") for name in PLACES} == pytest.approx(wanted, rel=1e-5)
    assert got.token_share == pytest.approx(5 / 12)
    assert got.mass == pytest.approx(total, rel=1e-5)
    assert got.difference == pytest.approx(float(each.sum()), rel=1e-4)
    assert got.log_odds == pytest.approx(
        float((model.weights * model.words.weight[list(ASKED.tokens)]).sum()), rel=1e-4
    )
    assert got.error == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_is_read_in_one_place_has_all_its_attribution_there(place):
    got = attribute(Linear(weights(place)), ASKED, END, steps=3)
    assert {name: getattr(got, f"{name}_share") for name in PLACES} == {name: float(name == place) for name in PLACES}


def test_a_model_that_reads_nothing_is_told():
    with pytest.raises(ValueError, match="depends on no token"):
        attribute(Linear(weights()), ASKED, END)


@pytest.mark.parametrize(("window", "reads"), [(3, {"conclusion"}), (8, {"conclusion", "draft"}), (12, {*PLACES})])
def test_a_transformer_owes_nothing_to_what_lies_outside_its_window(window, reads):
    """One layer with sliding attention: the last position sees `window` tokens, itself included."""
    config = Qwen2Config(
        **miniatures.COMMON, **miniatures.DECODER | {"num_hidden_layers": 1}, num_key_value_heads=2,
        use_sliding_window=True, sliding_window=window, layer_types=["sliding_attention"],
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    got = attribute(model, ASKED, END)
    shares = {name: getattr(got, f"{name}_share") for name in PLACES}
    assert {name for name, share in shares.items() if share > 0} == reads
    assert sum(shares.values()) == pytest.approx(1)


def by_hand(model, steps):
    """Attribution per token: midpoints of equal steps in float64, one gradient at a time, without captum."""
    words = model.get_input_embeddings()
    inputs, start = (words(torch.tensor([ids])) for ids in (ASKED.tokens, (END,) * 12))
    total = torch.zeros_like(inputs)
    for step in range(steps):
        at = (start + (step + 0.5) / steps * (inputs - start)).requires_grad_()
        logits = model(inputs_embeds=at).logits[0, -1].log_softmax(-1)
        total += torch.autograd.grad(logits[ASKED.given] - logits[ASKED.other], at)[0] / steps
    return (total * (inputs - start)).sum(-1)[0]


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "lfm2"])
def test_the_integral_is_that_of_a_plain_sum_and_complete(family):
    model = miniatures.model(family, torch.float64)
    each = by_hand(model, 300)
    got = attribute(model, ASKED, END, steps=64)
    assert abs(got.error) < 1e-5 * got.mass
    assert got.mass == pytest.approx(float(each.abs().sum()), rel=1e-4)
    for name, where in PLACES.items():
        assert getattr(got, f"{name}_share") == pytest.approx(
            float(each[where].abs().sum() / each.abs().sum()), abs=1e-4
        )
    assert got.difference == pytest.approx(float(each.sum()), abs=1e-4)
    assert abs(attribute(model, ASKED, END, steps=2).error) > abs(got.error), "too few steps show"
    turned = attribute(model, replace(ASKED, given=ASKED.other, other=ASKED.given), END, steps=64)
    assert turned.log_odds == pytest.approx(-got.log_odds)
    assert turned.draft_share == pytest.approx(got.draft_share), "shares do not depend on which answer is meant"


def test_parts_are_the_row_that_the_other_ablations_read():
    task, tokenizer = StrategyQaTask(), load("builtin:tiny").tokenizer
    asked = parts(task, tokenizer, Example("Is Ann a girl?", "Yes", "k", "k"), "Ann is a girl.", "Yes")
    assert "Is Ann a girl?" in tokenizer.decode(asked.prompt)
    assert tokenizer.decode(asked.draft) == "Ann is a girl"
    assert tokenizer.decode(asked.conclusion) == ". So the answer is "
    assert (tokenizer.decode(asked.given), tokenizer.decode(asked.other)) == ("Y", "N")
    other = parts(task, tokenizer, Example("Is Ann a girl?", "Yes", "k", "k"), "Ann is a girl.", "No")
    assert other == replace(asked, given=asked.other, other=asked.given)


TASK = StrategyQaTask(train_size=200, search_size=8, test_size=12)
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_finished_sweep(folder, "drafts", CotConfig(steps_per_round=20, target_modules=TARGETS), TASK)
    return folder


def said_instead(run, tmp_path, completion, items=range(12)):
    """A copy of the folder, whose winner said something else to these questions."""
    folder = tmp_path / "other"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("attribution.parquet"))
    table = pd.read_parquet(run / FINALISTS)
    table.loc[table["item"].isin(items), "completion"] = completion
    table.to_parquet(folder / FINALISTS)
    return folder


def test_the_verb_reads_a_run_and_leaves_a_table(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["espalier", "attribute", str(run), "--questions", "6", "--steps", "24"])
    console()
    out = capsys.readouterr().out
    left = Run.read(run)
    drafts = drafted(left, left.trial("best"), TASK)
    assert [one.draft for one in drafts] == [TASK.rationale(example) for example in TASK.test()]
    table = pd.read_parquet(run / "attribution.parquet")
    assert table.item.tolist() == [one.item for one in drafts[:6]]
    assert (table.prompt_share + table.draft_share + table.conclusion_share).to_numpy() == pytest.approx(1)
    assert table.error.abs().max() < 0.1 * table.mass.min()
    assert f"all: {100 * table.draft_share.mean():.1f} % on the draft (95 %: " in out
    assert {line.split(":")[0].strip() for line in out.splitlines() if "on the draft" in line} == {*table.kind, "all"}
    held, first = with_adapter("builtin:tiny", run / "best"), drafts[0]
    asked = parts(TASK, held.tokenizer, first.example, first.draft, first.answer)
    again = attribute(held.model.merge_and_unload(), asked, held.eos, steps=24)
    assert table.iloc[0].draft_share == pytest.approx(again.draft_share, abs=1e-3), "the adapter is attributed, too"
    base = attribute(load("builtin:tiny").model, asked, held.eos, steps=24)
    assert abs(table.iloc[0].draft_share - base.draft_share) > 0.01


@pytest.mark.parametrize("completion", ["Yes.", "No", "I am not sure.", "So the answer is Yes.", "Yes\nAnn is a girl."])
def test_a_winner_that_writes_no_drafts_is_told_in_one_line(run, tmp_path, completion):
    folder = said_instead(run, tmp_path, completion)
    with pytest.raises(BadInput, match=r"its winner \(cot\) writes no drafts before its answers; take a sweep"):
        attribute_run(folder)
    assert not (folder / "attribution.parquet").exists()


def test_answers_without_a_draft_are_left_out(run, tmp_path):
    left = Run.read(said_instead(run, tmp_path, "Yes.", items=(0, 2)))
    assert [one.item for one in drafted(left, left.trial("best"), TASK)] == [1, *range(3, 12)]


def test_what_cannot_be_attributed_is_told_in_one_line(run, tmp_path, capsys, monkeypatch):
    folder = said_instead(run, tmp_path, "Ann is a girl. So the answer is Yes.")
    for flags, told in (
        ({"questions": 0}, "--questions 0: give 1 or more"),
        ({"base": str(tmp_path / "gone")}, "give the base's present place with --base"),
    ):
        with pytest.raises(BadInput, match=told):
            attribute_run(folder, **flags)
    (folder / FINALISTS).unlink()
    with pytest.raises(BadInput, match="--finalists 1 or more"):
        attribute_run(folder)
    monkeypatch.setattr(sys, "argv", ["espalier", "attribute", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        console()
    assert end.value.code == 2
    assert "is not a sweep's folder" in capsys.readouterr().err
