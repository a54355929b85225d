"""A learner's own configuration is what its sweep tries first: every space has it, on every base that is known."""

from __future__ import annotations

import pytest

from search_spaces.axis import describe, inside
from search_spaces.models import BASES, fit
from sweeps.arc import SWEEP as ARC
from sweeps.arena import SWEEP as ARENA
from sweeps.strategyqa import SWEEP as STRATEGYQA
from sweeps.style import SWEEP as STYLE
from trainables.options import limits

SWEEPS = [ARC, ARENA, *STRATEGYQA.phases.values(), *STRATEGYQA.optional.values(), STYLE]
PAIRS = [(sweep, pair) for sweep in SWEEPS for pair in (*sweep.pairs, *sweep.optional)]


@pytest.mark.parametrize(("sweep", "pair"), PAIRS, ids=[f"{s.name}-{p.learner.name}" for s, p in PAIRS])
def test_a_space_holds_the_learner_s_default(sweep, pair):
    for base in ("builtin:tiny", *BASES):
        for axis, values in fit(sweep.space_of(pair), limits(pair.learner), base).axes.items():
            default = getattr(pair.learner, axis)
            assert inside(values, default), f"{axis} = {default!r} is not in {describe(values)} for {base}"
