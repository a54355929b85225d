"""The least that a sweep.yaml holds, for tests that read something else of a folder."""

from __future__ import annotations

from typing import Any


def least_facts(name: str = "x") -> dict[str, Any]:
    part = {"name": "x", "class": "x.X", "fields": {}}
    pairs = [{"learner": part, "task": dict(part), "base": "none"}]
    return {"sweep": {"name": name, "pairs": pairs, "space": {}, "num_samples": 1, "rounds": 1}}
