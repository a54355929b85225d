"""The largest weights that a space allows, by which `--plan` counts checkpoints."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution

from search_spaces import efe, hybrid
from search_spaces.space import Space
from sweeps.spec.largest_config import largest_weights
from sweeps.spec.sweep import Sweep
from tests.support.toys import Digits
from trainables.core import Pair
from trainables.learners.arc.efe.learner import EfeConfig
from trainables.learners.lm.hybrid import HybridConfig
from trainables.learners.lm.lora import LoraConfig

MODULES = Space({"target_modules": CategoricalDistribution(("q_proj", "v_proj"))})


@pytest.mark.parametrize(
    ("config", "space", "tops"),
    [
        (HybridConfig(), hybrid.SPACE, {"r": 32, "num_virtual_tokens": 32}),
        (HybridConfig(r=8), hybrid.SPACE.fix(r=4), {"r": 4, "num_virtual_tokens": 32}),
        (EfeConfig(), efe.SPACE, {"features": True, "base_r": 4, "memory_capacity": 256}),
        (LoraConfig(), MODULES, {"target_modules": (), "r": 16}),
    ],
)
def test_every_shape_is_at_its_top(config, space, tops):
    pair = Pair(config, Digits(), "")
    found = largest_weights(Sweep("s", (pair,), space), pair)
    assert {name: getattr(found, name) for name in tops} == tops
