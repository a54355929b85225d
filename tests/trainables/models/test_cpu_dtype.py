"""Whether bfloat16 is fast, measured on this processor and on the older one that oneDNN can be made to use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainables.models.cpu_dtype import FASTER, bfloat16_speedup

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
def test_with_its_instructions_bfloat16_pays():
    threads = torch.get_num_threads()
    assert bfloat16_speedup() >= FASTER
    assert torch.get_num_threads() == threads
