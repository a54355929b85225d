"""Environment variables that change the last bits of numbers. What was set is recorded with a sweep, and used again.

They are read when torch is imported or multiplies for the first time, so `use_again` comes before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# Threads are a sweep's own choice (`--resources.cpu`, or a host's share of the cores), recorded as `seating.threads`.
OF_THREADS = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OMP_DYNAMIC", "MKL_NUM_THREADS", "MKL_DYNAMIC")
CHANGE_BITS = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
VALUE = re.compile(r"[\w:,.-]{1,80}", re.ASCII)


def used() -> dict[str, str]:
    """Return the variables of this process that change bits, with their values."""
    found = {name: os.environ.get(name, "") for name in CHANGE_BITS}
    return {name: value for name, value in found.items() if VALUE.fullmatch(value)}


def use_again(recorded: Mapping[str, Any]) -> None:
    """Set the variables as they were recorded. The record may be somebody else's: it sets these variables alone."""
    for name in (*CHANGE_BITS, *OF_THREADS):
        os.environ.pop(name, None)
    known = {name: str(recorded[name]) for name in CHANGE_BITS if name in recorded}
    os.environ.update({name: value for name, value in known.items() if VALUE.fullmatch(value)})
