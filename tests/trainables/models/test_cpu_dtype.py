"""Whether bfloat16 is fast, measured on this processor and on the older one that oneDNN can be made to use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.models.cpu_dtype import FASTER, FEATURES_IN, FEATURES_OUT, bfloat16_speedup, rows_alike

MEASURE = "from trainables.models.cpu_dtype import bfloat16_speedup; print(bfloat16_speedup())"
CPU = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is a set of instructions of x86")
def test_without_its_instructions_bfloat16_is_slower():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < float(done.stdout) < FASTER


@pytest.mark.skipif(
    "avx512_bf16" not in CPU and "amx_bf16" not in CPU, reason="this processor has no bfloat16 products"
)
def test_with_its_instructions_bfloat16_pays_unless_batches_must_be_filled_up():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alike = rows_alike(torch.randn(FEATURES_OUT, FEATURES_IN).bfloat16())
    torch.set_num_threads(threads)
    assert (bfloat16_speedup() >= FASTER) == alike
    assert torch.get_num_threads() == threads
