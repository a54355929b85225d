"""Names and parameters: what is wrong with them is told in one line with the nearest names, or the parameters."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("reasoning_gym", reason="run `make reasoning-gym`")

from trainables.tasks.reasoning.task import ReasoningTask


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (("rg:chain_sums",), "rg:chain_sums is no generator of reasoning-gym; the nearest are chain_sum, "),
        (("rg:gcd+",), "task 'rg:gcd+': name each generator once, such as rg:chain_sum+gcd"),
        (("rg:gcd+gcd",), "task 'rg:gcd+gcd': name each generator once"),
        (("rg:gcd", ("max=3",)), "rg:gcd has no parameter 'max'; its parameters are min_numbers=2, max_numbers=2, min"),
        (("rg:gcd", ("seed=3",)), "rg:gcd has no parameter 'seed'"),
        (("rg:gcd", ("max_value",)), "params 'max_value': write gcd.PARAMETER=VALUE, for one of the generators gcd"),
        (
            ("rg:gcd+lcm", ("max_value=9",)),
            "params 'max_value=9': write gcd.PARAMETER=VALUE, for one of the",
        ),
        (("rg:gcd", ("max_value=9", "gcd.max_value=8")), "params 'gcd.max_value=8': gcd has max_value twice; give it"),
        (("rg:gcd", ("max_value=1",)), "rg:gcd (max_value=1) cannot be made: max_value must be > min_value; its"),
        (("rg:gcd", ("max_value=many",)), "rg:gcd (max_value=many) cannot be made: "),
        (("rg:composite",), "rg:composite cannot be made: Must specify at least one dataset"),
    ],
)
def test_faults_are_told_in_one_line(fields, told):
    with pytest.raises(ValueError) as fault:  # noqa: PT011 - the message is compared below
        ReasoningTask(*fields).train()
    assert str(fault.value).startswith(told)
    assert "\n" not in str(fault.value)


def test_parameters_reach_their_generator():
    task = ReasoningTask("gcd+basic_arithmetic", ("gcd.max_value=60", 'basic_arithmetic.operators=["+"]'))
    assert task.generators == "rg:gcd+basic_arithmetic", "the prefix may be left out"
    for example in task.search():
        if example.kind == "gcd":
            assert all(number <= 60 for number in example.data["metadata"]["numbers"])
        else:
            assert not {*"*/"} & {*example.data["question"]}


def test_without_the_package_one_line_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "reasoning_gym.factory")
    task = ReasoningTask(seed=77)
    with pytest.raises(ValueError, match=r"^reasoning-gym is not installed \(.*\); run `make reasoning-gym`$"):
        task.train()
