"""How many seats a sweep's hosts have, and on which machines."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import transformers

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.resources.placement import Machine, machine, place, with_devices
from sweeps.resources.worker_groups import worker_group_shape
from trainables.bad_input import BadInput
from trainables.models.loading import base_sizes
from trainables.packed.specs import Shape


def test_a_base_without_default_targets_is_for_whoever_needs_none(tmp_path):
    """Neither is known to PEFT; the one has queries and values by their usual names, the other has not."""
    shape: dict = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    transformers.Olmo2Config(vocab_size=64, **shape).save_pretrained(tmp_path / "olmo2")
    transformers.CTRLConfig(vocab_size=64, n_embd=32, dff=48, n_layer=2, n_head=4).save_pretrained(tmp_path / "ctrl")

    def found(kind, learner, **fields):
        pairs = tuple(replace(p, base=str(tmp_path / kind)) for p in ARENA.pairs if p.learner.name == learner)
        sweep = replace(ARENA, pairs=pairs, space=ARENA.space_of(pairs[0]))
        return place(sweep.fix(fields), Machine(cores=2))

    q_and_v = 4 * (4 + 16) * 32 * (2 * 2 * 64) / 2**20
    assert found("olmo2", "lora").why.startswith(f"{q_and_v:,.1f} MiB a seat")
    assert found("ctrl", "soft_prompt").shape
    assert found("ctrl", "lora", target_modules="Wq").shape
    with pytest.raises(BadInput, match="no default LoRA targets for 'ctrl'; set target_modules to") as error:
        found("ctrl", "lora")
    assert "\n" not in str(error.value)


def test_seats_are_chosen_from_memory_trials_and_learners():
    auto = place(ARENA, Machine(cores=2, free_bytes=8e9))
    assert (auto.seats, auto.hosts) == (4, 2)
    assert auto.shape == Shape(seats=4, lanes=32, max_rank=32, max_prompt=32)
    # q and v of four layers, 128 -> 128, at rank 32, and 32 vectors of 128: parameter, gradient, two moments, and a
    # copy for each of the 16 rows of a batch; float32
    per_seat = 4 * (4 + 16) * (32 * 4 * 2 * 256 + 32 * 128)
    weights = 4 * base_sizes("builtin:tiny")[2]
    assert place(ARENA, Machine(cores=2, free_bytes=2 * (weights + 3.5 * per_seat / 0.6))).seats == 3
    one = place(ARENA, Machine(cores=2, free_bytes=weights + 7 * per_seat))
    assert (one.seats, one.hosts) == (4, 1), "two copies of the base would leave room for one seat each"
    assert place(ARENA, Machine(cores=2, free_bytes=weights)).shape is None, "the base alone fills it"
    few = place(replace(ARENA, num_samples=5), Machine(cores=64))
    assert (few.seats, few.hosts) == (3, 2)
    device = place(ARENA, Machine(cores=16, gpus=1))
    assert (device.seats, device.hosts) == (10, 1), "not all 24 at once: the sampler must see some results"
    large = place(replace(ARENA, num_samples=120), Machine(cores=16, gpus=1))
    assert (large.seats, large.hosts) == (32, 1)
    assert place(replace(ARENA, max_concurrent_trials=1), Machine(cores=2)).shape is None
    pair = ARENA.pairs[0]
    two = replace(ARENA, pairs=(pair, replace(pair, base="builtin:tiny:float32", learner=replace(pair.learner))))
    for few in (Machine(cores=16, gpus=1), Machine(cores=1)):  # the second base's host would wait for ever
        found = place(two, few)
        assert found.shape is None
        assert "2 hosts of 2 bases need one each of 1 " in str(found)
    assert place(two, Machine(cores=16, gpus=2)).hosts == 1
    with pytest.raises(BadInput, match="3 hosts of 1 base need one each of 2 cores; leave --seats"):
        place(replace(ARENA, hosts=3), Machine(cores=2))
    assert place(replace(ARENA, seats=1), Machine(cores=2)).shape is None
    alone = place(replace(ARENA, pairs=ARENA.optional, optional=()), Machine(cores=2))
    assert alone.shape is None
    assert "'dora' cannot share one" in str(alone)
    with pytest.raises(BadInput, match="--seats 1"):
        place(replace(ARC, seats=4), Machine())


def test_trials_on_a_base_take_a_gpu_unless_told_otherwise():
    assert with_devices(ARENA, 0) == ARENA
    assert with_devices(ARENA, 2).resources_per_trial == {"cpu": 1, "gpu": 1}
    assert worker_group_shape(with_devices(ARENA, 2)) is None
    pair = ARENA.pairs[0]
    phase = with_devices(replace(ARENA, pairs=(pair, replace(pair, base="builtin:tiny:float32"))), 1)
    assert phase.resources_per_trial["gpu"] == 0.5
    assert place(phase, machine(phase, cores=8, devices=1)).hosts == 1, "one of each base, on half a GPU"
    for said in ({"cpu": 1, "gpu": 0}, {"cpu": 1, "gpu": 0.5}):
        assert with_devices(replace(ARENA, resources_per_trial=said), 2).resources_per_trial == said
    assert with_devices(replace(ARENA, num_workers=2), 2).resources_per_trial == {"cpu": 1}
    percell = replace(ARC, pairs=tuple(pair for pair in ARC.pairs if not pair.learner.needs_base), optional=())
    assert with_devices(percell, 2).resources_per_trial == {"cpu": 1}, "small networks of single tasks stay on cores"


def test_seats_on_a_gpu_are_chosen_from_its_free_memory(tmp_path, monkeypatch):
    """What `nvidia-smi` prints here, for two devices; the one with less decides."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 81559\necho 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    wide = replace(ARENA, num_samples=120, resources_per_trial={"gpu": 0.5})
    found = machine(wide, cores=16, devices=2)
    assert found == Machine(16, 4, 50 * 2**20)
    assert machine(replace(wide, resources_per_trial={"gpu": 0.6}), 16, 2).gpus == 2, "what is left of each is lost"
    tool.write_text("#!/bin/sh\ncase $* in *--id=1) echo 100;; *) echo 5;; esac\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine(wide, cores=16, devices=2) == found, "GPUs that nobody here may use say nothing"
    per_seat = 4 * (4 + 16) * (32 * 4 * 2 * 256 + 32 * 128)
    weights = 2 * base_sizes("builtin:tiny")[2]
    assert place(wide, found).seats == int(0.6 * (50 * 2**20 - weights) / per_seat)
    tool.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert place(wide, machine(wide, cores=16, devices=2)).seats == 20, "no such tool: 40 at once, on two hosts"
