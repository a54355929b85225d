"""Whether a row's last bits depend on the batch, which decides whether batches of trials are filled up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]
# Sizes of SmolLM2's MLP. Some Intel processors give rows of the second product other bits in batches of up to 192.
PRODUCTS = """
import torch
{first}
torch.set_num_threads({threads})
for features_in, features_out in ((576, 1536), (1536, 576)):
    weight, rows = torch.randn(features_out, features_in), torch.randn(1024, features_in)
    whole = rows @ weight.T
    for count in (8, 24, 64, 96, 128, 192, 640):
        assert torch.equal(rows[:count] @ weight.T, whole[:count]), (features_in, features_out, count)
"""


def has_mkl_strict_mode() -> bool:
    """Return whether torch multiplies by MKL, on an Intel processor with AVX2: only there MKL has its strict mode."""
    about = Path("/proc/cpuinfo")
    flags = about.read_text(encoding="utf-8") if about.exists() else ""
    return torch.backends.mkl.is_available() and "GenuineIntel" in flags and "avx2" in flags.split()


@pytest.mark.skipif(not has_mkl_strict_mode(), reason="MKL's strict mode is for Intel processors with AVX2")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_of_a_product_has_the_same_bits_in_a_batch_of_any_size(threads):
    code = PRODUCTS.format(first="import trainables", threads=threads)
    clean = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"}
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
