"""The untouched base is not waited for without end where its device does not come."""

from __future__ import annotations

from dataclasses import replace

import ray

from sweeps.tuning.finalists import measure_bases, measured
from tests.support.device_kit import Asked
from tests.support.knobs import ONE
from tests.support.toys import Letters
from trainables.core import Pair


def test_a_device_that_does_not_come_is_not_waited_for_without_end(ray_session, capsys):
    sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial={"gpu": 99.0})
    waiting = measure_bases(sweep, {}, None)["knob"]
    assert measured(waiting, 0.5) == {}
    assert "not measured within 0.5 s: `ray status`" in capsys.readouterr().out
    ray.cancel(waiting)
