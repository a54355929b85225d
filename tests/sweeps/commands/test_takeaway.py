"""A sweep is made again from what its sweep.yaml says."""

from __future__ import annotations

import pytest
import yaml

from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.persistence.provenance import describe
from sweeps.spec.deserialize import rebuild
from sweeps.spec.sweep import BadInput
from tests.support.toy_sweep import SWEEP as TOY


@pytest.mark.parametrize("one", [ARC, ARENA, TOY, ARENA.fix({"lora.r": 8, "weight_decay": 0.0})])
def test_a_sweep_is_made_again_from_its_yaml(one):
    facts = yaml.safe_load(yaml.safe_dump(describe(one)))
    again = rebuild(facts)
    assert again.to_dict() == one.to_dict()
    assert again.defaults() == one.defaults()
    params = next(p for p in one.defaults())
    assert again.resolve(params) == one.resolve(params)
    again.validate()


def test_what_cannot_be_made_again_is_named():
    facts = yaml.safe_load(yaml.safe_dump(describe(TOY)))
    facts["sweep"]["pairs"][0]["learner"]["class"] = "tests.support.toys.Gone"
    with pytest.raises(BadInput, match=r"class Gone comes from module .* add --trust tests/support/toys.py"):
        rebuild(facts)
