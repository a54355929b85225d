"""dpo in a host: its reference is read once, for all trials; a trial goes on; memory may run out."""

from __future__ import annotations

import pytest
import torch

from search_spaces import dpo as space
from sweeps.resources.placement import Machine, place
from sweeps.spec.sweep import Sweep
from tests.support.phases_kit import SMALL, TASK, counting_passes, tiny
from trainables.core import Pair
from trainables.learners.lm.dpo import DpoConfig
from trainables.models.tokenization import row_of
from trainables.packed.host import Host
from trainables.packed.solo import Solo
from trainables.packed.specs import Shape

FIRST = TASK.train()[:4]


def opened(base, task=TASK, **more):
    config = DpoConfig(**SMALL | {"max_pairs": 4} | more)
    return config, Solo(base, config.build(base, task, 0), 0)


def test_trials_of_a_host_share_one_reading_of_the_reference():
    base = tiny()
    config = DpoConfig(**SMALL, max_pairs=4)
    host = Host(base, Shape(seats=3, lanes=8, max_rank=2))
    for trial in "abc":
        host.open(trial, config.build(base, TASK, 0), 0)
    with counting_passes(base) as first:
        host.round("a")
    with counting_passes(base) as second:
        host.run({"b": "round", "c": "round"})
    assert len(first) > config.steps_per_round + 2, "said and read, and trained"
    assert len(second) == config.steps_per_round, "two trials, one pass a step, and nothing asked again"
    a, b = (host.trials[trial].learner.state()["known"] for trial in "ab")
    assert a == b
    rows = [row_of(base.tokenizer, e.prompt, text) for e, own in zip(FIRST, a, strict=True) for text in own[:2]]
    sums = [float(one.sum()) for one in host.logprobs(rows)]
    assert [value for own in a for value in own[2]] == pytest.approx(sums, rel=1e-5)
    host.shut()


def test_a_resumed_trial_asks_for_nothing_again_and_goes_on_as_it_would_have():
    base = tiny()
    config, one = opened(base, beta_warmup_steps=3)
    one.round()
    one.evaluate()
    state = one.state()
    expected, then = one.round(), one.evaluate()
    values = one.values()
    one.close()
    _, other = opened(base, beta_warmup_steps=3)
    other.load(state)
    with counting_passes(base) as passes:
        again = other.round()
    assert len(passes) == config.steps_per_round
    assert again.loss == expected.loss
    assert all(torch.equal(value, values[name]) for name, value in other.values().items())
    assert other.evaluate().metrics["rewards/margins"] == then.metrics["rewards/margins"]
    other.close()


def test_running_out_of_memory_in_the_backward_pass_changes_neither_beta_nor_metrics():
    def run(out_of_memory):
        base = tiny()
        _, solo = opened(base, beta_warmup_steps=4)
        learner = solo.host.trials["solo"].learner
        plain, left = learner.loss, [out_of_memory]

        def loss(logprobs, rows):
            total = plain(logprobs, rows)
            if left[0]:
                left[0] = False
                total.register_hook(_raise)
            return total

        learner.loss = loss
        told = [solo.round().flat() | solo.evaluate().flat() for _ in range(2)]
        solo.close()
        return told

    expected, found = run(False), run(True)
    assert [one.pop("memory_halvings") for one in found] == [1, 1]
    # The first step's policy is its reference: whose reward is greater there is rounding, so no accuracy is compared.
    names = [name for name in expected[0] if name.startswith(("rewards/", "logps/", "loss", "grad_norm"))]
    names.remove("rewards/accuracies")
    assert len(names) == 7
    sums = max(abs(one[name]) for one in expected for name in names if name.startswith("logps/"))
    noise = 8 * torch.finfo(torch.float32).eps * sums  # what float32 leaves of a difference of two such sums
    for one, other in zip(expected, found, strict=True):
        for name in names:
            assert other[name] == pytest.approx(one[name], rel=1e-3, abs=noise), name


def _raise(gradient):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


def test_rewards_are_of_all_micro_batches_of_a_step():
    told = []
    for pairs, micro_batches in ((4, 1), (1, 4)):
        fields = {"per_device_train_batch_size": pairs, "gradient_accumulation_steps": micro_batches}
        _, solo = opened(tiny(), **fields)
        told.append(solo.round().flat() | solo.evaluate().flat())
        solo.close()
    whole, parts = told
    for name in ("loss", "logps/chosen", "logps/rejected", "rewards/margins"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-5), name


def test_seats_have_room_for_both_sides_of_a_pair():

    sweep = Sweep(
        name="dpo",
        pairs=(Pair(DpoConfig(), TASK, "builtin:tiny"),),
        space=space.SPACE,
        num_samples=2,
        rounds=1,
        seats=2,
    )
    machine = Machine(cores=2, gpus=0, free_bytes=2**33)
    assert place(sweep, machine).shape.lanes >= 2 * 16
