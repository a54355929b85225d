"""Learners on a GPU: a real one where there is one, else one that is pretended, which minds what is left on the CPU.

Their numbers are the CPU's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from tests.support.arc_files import becomes, ids
from tests.support.grids_kit import QUICK, arc, grid_base
from tests.support.joint_kit import filed
from tests.support.miniatures import base
from tests.support.packing_kit import BASE, CONFIGS, SHAPE, TASK, alone
from tests.support.pretended_gpu import pretended_gpu
from tests.support.toys import Letters
from trainables.core import Learner
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.arc.joint.rows import read
from trainables.learners.arc.joint.transformer import TransformerShape
from trainables.learners.arc.joint.transformer_training import JointTransformer, TransformerTraining
from trainables.learners.arc.percell.learner import PercellConfig
from trainables.learners.lm.attribution import Parts, attribute
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.sft import SftConfig
from trainables.models.loading import Base
from trainables.packed.adapter_stack import AdapterStack
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.tasks.style.task import StyleTask


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    if torch.cuda.is_available():
        yield torch.device("cuda", 0)
    else:
        with pretended_gpu(monkeypatch) as device:
            yield device


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """Inside, there is no GPU, even if there is one."""

    @contextmanager
    def hidden() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr("torch.cuda.is_available", lambda: False)
            yield

    return hidden


def moved(ours: Base, device: torch.device) -> Base:
    return Base(ours.name, copy.deepcopy(ours.model).to(device), ours.tokenizer)


def test_what_stays_on_the_cpu_is_found(gpu, monkeypatch):
    """A planted fault: the adapters' values, made on the wrong device."""
    with pytest.raises(RuntimeError, match=r"same device|one device"):
        torch.ones(3, device=gpu) + torch.ones(3)
    opened = AdapterStack.__init__

    def forgetful(self, *arguments):
        opened(self, *arguments)
        self.values = self.values.cpu()

    monkeypatch.setattr(AdapterStack, "__init__", forgetful)
    there = moved(BASE, gpu)
    host = Host(there, SHAPE)
    host.open("t", CONFIGS["lora"].build(there, TASK, 0), 0)
    with pytest.raises(RuntimeError, match=r"same device|one device|indices"):
        host.round("t")


@pytest.mark.parametrize("name", ["lora", "more rows than lanes", "both"])
def test_seats_learn_and_answer_as_on_the_cpu(name, request):
    wanted = alone(CONFIGS[name], rounds=2)
    there = moved(BASE, request.getfixturevalue("gpu"))
    host = Host(there, SHAPE)
    host.open("t", CONFIGS[name].build(there, TASK, 0), 0)
    host.open("beside", CONFIGS["prompt"].build(there, TASK, 1), 1)
    for number in range(2):
        assert host.run({"t": "round", "beside": "round"})["t"].loss == pytest.approx(wanted.losses[number], rel=1e-4)
        assert host.evaluate("t").completions == wanted.said[number]["completions"]
        host.load("t", host.state("t"))
        for own, value in host.values("t").items():
            assert value.cpu() == pytest.approx(wanted.values[number][own], abs=1e-5)
    assert host.files("t")
    rows = host.trials["t"].learner.next_rows()
    assert [row.shape for row in host.logprobs(rows)] == [(sum(row.labels),) for row in rows]


STYLE, YES_NO = StyleTask("generated", 0, 24, 12, 12), StrategyQaTask(train_size=16, search_size=8, test_size=8)
PACKED = SftConfig(steps_per_round=2, packing=True, forgetting_size=5, neftune_noise_alpha=5.0)
QUESTIONS = {
    "packed rows and noise": (PACKED, STYLE),
    "pairs": (DpoConfig(steps_per_round=2, max_new_tokens=4), YES_NO),
    "the whole model": (FullConfig(steps_per_round=2), Letters()),
    "PEFT's own": (DoraConfig(steps_per_round=2), Letters()),
    "updates watched": (LoraConfig(steps_per_round=2, watch_updates=True), Letters()),
}


def opened(config, task, ours):
    made = config.build(ours, task, 0)
    return made if isinstance(made, Learner) else Solo(ours, made, 0)


def ran(config, task, ours, folder):
    """Loss, and answers to both splits, of a learner that was saved half-way and goes on in another."""
    first = opened(config, task, ours)
    losses = [first.round().loss]
    state = first.state()
    first.close()
    other = opened(config, task, ours)
    other.load(state)
    items = other.evaluate().items, other.evaluate("test").items
    losses.append(other.round().loss)
    folder.mkdir()
    other.save(str(folder))
    other.close()
    assert any(folder.iterdir())
    return losses, items


@pytest.mark.parametrize("name", QUESTIONS)
def test_language_learners_do_as_on_the_cpu(name, without, request, tmp_path):
    config, task = QUESTIONS[name]
    with without():
        losses, items = ran(config, task, base(), tmp_path / "here")
    there = moved(base(), request.getfixturevalue("gpu"))
    again = ran(config, task, there, tmp_path / "there")
    assert again[0] == pytest.approx(losses, rel=1e-4)
    assert again[1] == items


GRIDS = {
    "percell": (PercellConfig(steps_per_round=4, seeds=2, permute_colours=True), False),
    "efe": (
        EfeConfig(steps_per_round=4, features=True, base_r=2, alignment=0.1, memory_capacity=4, success_threshold=0.1),
        True,
    ),
    "lora_ttt": (QUICK, True),
}


@pytest.mark.parametrize("name", GRIDS)
def test_learners_of_grids_do_as_on_the_cpu(name, without, request, tmp_path):
    (config, with_base), task = GRIDS[name], arc(tmp_path)
    with without():
        losses, items = ran(config, task, grid_base() if with_base else None, tmp_path / "here")
    device = request.getfixturevalue("gpu")
    there = moved(grid_base(), device) if with_base else None
    again = ran(config, task, there, tmp_path / "there")
    assert again[0] == pytest.approx(losses, rel=1e-3)
    assert again[1] == items


def test_the_transformer_of_joint_does_as_on_the_cpu(without, request, tmp_path):
    """In bfloat16 on a GPU that has it: rules that are learned to the end are still the same."""
    keys = [*ids("train", 2), *ids("search", 1), *ids("test", 1)]
    tasks, _ = read(filed(tmp_path / "rules", {key: becomes(1 + i, (3 + i) % 5, i) for i, key in enumerate(keys)}))
    shape = TransformerShape(hidden_size=32, layers=1, heads=2, dropout=0.0)

    def told():
        model = JointTransformer(tasks, TransformerTraining(shape, learning_rate=1e-2, cells=256), transductive=True)
        losses = [float(model.step(step / 150)) for step in range(150)]
        return losses, {key: own[0].first.tolist() for key, own in model.votes(tasks, 10, lambda: True).items()}

    with without():
        losses, answers = told()
    request.getfixturevalue("gpu")
    again = told()
    assert again[0][:5] == pytest.approx(losses[:5], rel=0.05)
    assert again[1] == answers
    assert answers.keys() == {*keys}


def test_an_answer_is_attributed_as_on_the_cpu(request):
    asked = Parts((5, 6, 7), (8, 9), (10,), 11, 12)
    here = attribute(base().model, asked, baseline=1)
    there = attribute(moved(base(), request.getfixturevalue("gpu")).model, asked, baseline=1)
    assert there.draft_share == pytest.approx(here.draft_share, rel=1e-4)
    assert there.log_odds == pytest.approx(here.log_odds, rel=1e-4)
