"""Every configuration beside every company, with two threads: a trial's bits are its own."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import pytest

from tests.support.packing_kit import (
    BASE,
    BATCHES,
    BESIDE,
    CONFIGS,
    IN_BFLOAT16,
    Trial,
    alone,
    check_bit_identical,
    in_batches,
    threads,
)

BASES = {"float32": BASE, "bfloat16": IN_BFLOAT16}


@cache
def by_itself(config: Any, batches: str, dtype: str) -> Trial:
    return alone(config, rounds=2, on=BASES[dtype])


@pytest.mark.parametrize(("name", "beside", "batches", "dtype"), product(CONFIGS, BESIDE, BATCHES, BASES))
def test_a_seat_is_bit_identical_whoever_sits_beside_it(name: str, beside: str, batches: str, dtype: str) -> None:
    with in_batches(batches), threads(2):
        check_bit_identical(by_itself(CONFIGS[name], batches, dtype), CONFIGS[name], beside, BASES[dtype])
