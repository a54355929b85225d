"""How large a base is once it is loaded."""

from __future__ import annotations

import pytest
from transformers import MixtralConfig

from sweeps.resources.base_memory import base_bytes
from trainables.models.loading import base_sizes


@pytest.mark.parametrize(("options", "gpu", "plain"), [("nf4", True, 2), ("nf4", False, 4), ("nf4:bfloat16", False, 2)])
def test_four_bits_do_not_reach_stacked_experts(options, gpu, plain, tmp_path):
    """bitsandbytes quantizes linear layers. Two layers of 8 experts, each of 3 matrices of 32 x 64."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    MixtralConfig(vocab_size=64, **shape, num_key_value_heads=2, num_local_experts=8).save_pretrained(tmp_path)
    experts, every = 2 * 8 * 3 * 32 * 64, base_sizes(str(tmp_path))[2]
    assert base_bytes(f"{tmp_path}:{options}", gpu) == pytest.approx(experts * plain + (every - experts) * 0.6)
    assert base_bytes(str(tmp_path), gpu) == every * (2 if gpu else 4)
