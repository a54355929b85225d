"""Sweeps whose trials have several processes, and sweeps that cannot have them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.resources.placement import Machine, place
from sweeps.resources.ray_cluster import Capacity
from sweeps.resources.worker_groups import worker_group_shape
from sweeps.strategyqa import SWEEP as STRATEGYQA
from sweeps.style import SWEEP as STYLE
from trainables.bad_input import BadInput
from trainables.packed.specs import WorkerGroupShape


def asked(of=ARENA, **changes):
    return replace(of, pairs=tuple(p for p in of.pairs if p.learner.name in ("lora", "percell")), **changes)


def test_a_gpu_is_a_process():
    two = asked(resources_per_trial={"cpu": 4, "gpu": 2})
    assert worker_group_shape(two) == WorkerGroupShape(2, cpus=2, gpus=1)
    assert worker_group_shape(replace(two, num_workers=2, parallel_strategy="fsdp")) == WorkerGroupShape(
        2, 2, 1, "fsdp"
    )
    for one in (STYLE, *STRATEGYQA.phases.values()):  # their learners are of one task, and adapt one base
        assert worker_group_shape(replace(one, num_workers=2)) == WorkerGroupShape(2, cpus=0.5)
    assert worker_group_shape(asked(resources_per_trial={"cpu": 1, "gpu": 1})) is None
    assert worker_group_shape(asked(resources_per_trial={"cpu": 1, "gpu": 0.5})) is None
    assert place(two, Machine(8, 4)).workers == WorkerGroupShape(2, 2, 1)
    assert Capacity(cores=16, gpus=8, smallest=4).trials(two.resources_per_trial) == 4


@pytest.mark.parametrize(
    ("sweep", "remedy"),
    [
        (asked(ARC, resources_per_trial={"gpu": 2}), "learner 'percell' trains in one process"),
        (replace(ARC, pairs=ARC.optional[2:3], num_workers=2), "learner 'lora_ttt' trains in one process"),
        (replace(ARENA, num_workers=2), "learner 'soft_prompt': .*choose another --learner"),
        (asked(resources_per_trial={"gpu": 3}, num_workers=2), "use --resources.gpu 2, or 0"),
        (asked(resources_per_trial={"gpu": 2}, num_workers=1), "a process trains on one device"),
        (asked(num_workers=2, seats=4), "drop --seats"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(sweep, remedy):
    with pytest.raises(BadInput, match=remedy):
        worker_group_shape(sweep)
