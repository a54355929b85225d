"""One trial in several processes, against the same trial in one: rows shared (DDP), and the model too (FSDP)."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import peft
import pytest
import safetensors.torch
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import transformers

from tests.support.toys import Letters
from trainables.core import Pair, Row
from trainables.learners.lm.cot import CotConfig
from trainables.learners.lm.dora import DoraConfig
from trainables.learners.lm.dpo import DpoConfig
from trainables.learners.lm.full import FullConfig
from trainables.learners.lm.lora import LoraConfig
from trainables.learners.lm.sft import SftConfig
from trainables.learners.lm.supervised import SupervisedLearner
from trainables.models.loading import BUILTIN, load
from trainables.models.peft_adapters import lora_config
from trainables.states import unpack
from trainables.tasks.strategyqa.task import StrategyQaTask
from trainables.tasks.style.task import StyleTask
from trainables.training.distributed import open_distributed
from trainables.training.standalone import StandaloneLearner, with_peft

PROCESSES, SEED, ROUNDS = 2, 3, 2
# Five rows in two processes: one of them has a row that counts for nothing.
FIELDS = {"steps_per_round": 4, "per_device_train_batch_size": 5, "gradient_accumulation_steps": 2, "weight_decay": 0.1}
ONLINE = FIELDS | {"mode": "online"}  # one row: the second process has none


class PackedLearner(SupervisedLearner):
    """Two documents in a row, where there are two."""

    def next_rows(self):
        rows = super().next_rows()
        pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
        return [
            Row(
                *(sum((getattr(r, part) for r in own), ()) for part in ("tokens", "labels")),
                (len(own[0].tokens),) * (len(own) - 1),
            )
            for own in pairs
        ]


class PackedConfig(LoraConfig):
    def build(self, base, task, seed):
        return PackedLearner(self, self.adapter(), self.optimizer(), base, task, seed)


KINDS = {"lora": LoraConfig, "dora": DoraConfig, "full": FullConfig, "packed": PackedConfig, "dropping": LoraConfig}
ASKS = {"max_new_tokens": 12, "gradient_accumulation_steps": 1, "per_device_train_batch_size": 3}
OWN = {  # learners of one task, which ask the base and read its likelihoods
    "cot": (CotConfig(**FIELDS | ASKS), StrategyQaTask(train_size=16, search_size=8, test_size=8)),
    "dpo": (DpoConfig(**FIELDS | ASKS, max_pairs=4), StrategyQaTask(train_size=16, search_size=8, test_size=8)),
    "sft": (SftConfig(r=4, packing=True, forgetting_size=20), StyleTask("generated", 0, 24, 12, 12)),
}
RUNS = [("online", "ddp", 0), ("online", "fsdp", 0)]
RUNS += [("lora", "ddp", 0), ("lora", "fsdp", 0), ("dora", "fsdp", 0), ("full", "ddp", 1), ("full", "fsdp", 1)]
RUNS += [("packed", "ddp", 0), ("packed", "fsdp", 0), ("dropping", "ddp", 1), ("dropping", "fsdp", 0)]
RUNS += [(kind, strategy, 0) for kind in OWN for strategy in ("ddp", "fsdp")]


def pair(kind):
    if kind in OWN:
        return Pair(*OWN[kind], "builtin:tiny")
    config = LoraConfig(**ONLINE) if kind == "online" else KINDS[kind](**FIELDS)
    if kind == "dropping":
        config = replace(config, lora_dropout=0.2, neftune_noise_alpha=5.0)
    return Pair(config, Letters(), "builtin:tiny")


def alone(kind):
    """Stock PyTorch and PEFT in this process."""
    own = pair(kind)
    base = load(own.base)
    learner = own.learner.build(base, own.task, SEED)
    if not isinstance(learner, StandaloneLearner):
        learner = with_peft(base, lora_config(base, learner.adapter), learner, SEED)
    return learner


@cache
def seen_alone(kind):
    """What one process sees, and the parameters of its model."""
    learner = alone(kind)
    seen, whole = train(learner), sum(p.numel() for p in learner.model.parameters())
    learner.close()
    return seen, whole


def train(learner):
    """Losses and norms, and what is answered, round by round."""
    seen = []
    for _ in range(ROUNDS):
        trained = learner.round()
        seen.append((trained.loss, trained.metrics["grad_norm"], learner.evaluate().items))
    return seen


def process(rank, address, folder):
    """One process of the group: all runs, one after the other; the first writes down what it saw."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)
    for number, (kind, strategy, halvings) in enumerate(RUNS):
        learner = open_distributed(pair(kind), SEED, strategy, halvings, device=torch.device("cpu"))
        own = folder / str(number)
        own.mkdir(exist_ok=True)
        seen, state = train(learner), learner.state()
        learner.save(str(own))
        after = learner.round().loss
        learner.evaluate()
        of_first = [state]
        dist.broadcast_object_list(of_first)
        learner.load(of_first[0])
        again = learner.round().loss
        held = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in learner.model.parameters())
        learner.close()
        if rank == 0:
            (own / "state.pt").write_bytes(state)
            (own / "seen.json").write_text(json.dumps([seen, after, again, held]))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """The folder of every run, made by real processes."""
    folder = tmp_path_factory.mktemp("spread")
    mp.spawn(process, args=(f"file://{folder}/meet", folder), nprocs=PROCESSES)
    return {(kind, strategy): folder / str(number) for number, (kind, strategy, _) in enumerate(RUNS)}


@pytest.mark.parametrize(("kind", "strategy"), [run[:2] for run in RUNS])
def test_several_processes_train_what_one_does(spread, kind, strategy):
    expected, whole = seen_alone(kind)
    seen, after, again, held = json.loads((spread[kind, strategy] / "seen.json").read_text())
    for (loss, norm, items), (own_loss, own_norm, own_items) in zip(seen, expected, strict=True):
        assert (loss, norm) == (pytest.approx(own_loss, rel=1e-4), pytest.approx(own_norm, rel=1e-3))
        assert items == own_items
    assert again == pytest.approx(after, rel=1e-6)  # its own state brings it back to where it was
    assert held == whole if strategy == "ddp" else 0.49 * whole < held < 0.51 * whole

    one = alone(kind)
    one.load((spread[kind, strategy] / "state.pt").read_bytes())  # and one process goes on from the state of several
    assert one.round().loss == pytest.approx(after, rel=1e-4)
    one.close()


def test_what_is_taken_away_is_whole(spread):
    """PEFT and transformers load it, and it has the values of the state."""
    for strategy in ("ddp", "fsdp"):
        model = transformers.AutoModelForCausalLM.from_pretrained(BUILTIN["tiny"])
        adapted = peft.PeftModel.from_pretrained(model, spread["lora", strategy])
        state = unpack((spread["lora", strategy] / "state.pt").read_bytes())
        trained = {name: value for name, value in adapted.named_parameters() if "lora_" in name}
        assert state["parameters"].keys() == trained.keys()
        assert all(torch.equal(value, trained[name]) for name, value in state["parameters"].items())

        transformers.AutoModelForCausalLM.from_pretrained(spread["full", strategy])
        state = unpack((spread["full", strategy] / "state.pt").read_bytes())
        saved = safetensors.torch.load_file(spread["full", strategy] / "model.safetensors")
        assert all(torch.equal(saved[name], value) for name, value in state["parameters"].items())
        config = json.loads((spread["full", strategy] / "config.json").read_text())
        assert config["architectures"] == [type(model).__name__]
