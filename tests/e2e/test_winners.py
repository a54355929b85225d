"""Simulated sweeps whose finalists go on in stages, as `benchmarks/winners.py` prints them."""

from __future__ import annotations

import numpy as np

from benchmarks.winners import sweep


def share(better, taste, name, count=40):
    return np.mean([getattr(sweep(better, taste, 500, False, seed), name) for seed in range(count)])


def test_stages_find_five_points_and_declare_no_winner_of_two_that_are_equal():
    """Five points were found in 9 % of sweeps with three seeds each."""
    assert share((0.05,), 0.3, "right") >= 0.4
    assert share((0.10, 0.10), 0.3, "false") <= 0.1
