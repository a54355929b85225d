"""The untouched base is measured where a trial would run: with its device, if trials have one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import ray

from sweeps.engine.finalists import measure_bases, measured
from sweeps.engine.quiet import quieten
from tests.knobs import ONE, Knob
from tests.toys import Letters
from trainables.core import Pair


class Device:
    """A learner of its own kind that says which devices it sees."""

    def evaluate(self, split: str = "search") -> dict[str, Any]:
        return {"score": 0.0, "devices": os.environ.get("CUDA_VISIBLE_DEVICES", "all")}

    def round(self) -> dict[str, float]:
        return {"loss": 0.0}

    def state(self) -> bytes:
        return b""

    def load(self, state: bytes) -> None:
        pass

    def save(self, folder: str) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Asked(Knob):
    needs_base: ClassVar[bool] = True

    def build(self, base: Any, task: Any, seed: int) -> Device:
        return Device()


def told() -> None:
    quieten()
    ray.init(address="local", num_cpus=1, num_gpus=1, include_dashboard=False, object_store_memory=100_000_000)
    for asked in ({"cpu": 1.0}, {"cpu": 1.0, "gpu": 0.5}):
        sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial=asked)
        print("devices:", measured(measure_bases(sweep, {}, None)["knob"], 300)["devices"] or "none")
    ray.shutdown()


def test_measuring_has_the_device_that_a_trial_has():
    code = "from tests.test_measured_base import told; told()"
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=environment | {"PYTHONPATH": "."}
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("devices:")] == ["devices: none", "devices: 0"]


def test_a_device_that_does_not_come_is_not_waited_for_without_end(ray_session, capsys):
    sweep = replace(ONE, pairs=(Pair(Asked(), Letters(), "builtin:tiny"),), resources_per_trial={"gpu": 99.0})
    waiting = measure_bases(sweep, {}, None)["knob"]
    assert measured(waiting, 0.5) == {}
    assert "not measured within 0.5 s: `ray status`" in capsys.readouterr().out
    ray.cancel(waiting)
