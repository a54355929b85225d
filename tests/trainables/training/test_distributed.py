"""Learners that several processes cannot train."""

from __future__ import annotations

import pytest
import torch

from tests.support.toys import Letters
from trainables.core import Pair
from trainables.learners.lm.lora import LoraConfig
from trainables.training.distributed import open_distributed


def test_four_bits_are_not_sharded():
    with pytest.raises(ValueError, match="use --parallel-strategy ddp"):
        open_distributed(Pair(LoraConfig(), Letters(), "builtin:tiny:nf4"), 0, "fsdp", device=torch.device("cpu"))
