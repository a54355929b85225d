"""`node_config` of a cluster's file: the body of POST /v2/pods with three additions (see `cluster/runpod.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.api import RunPodError

ADDED_KEYS = ("max_price", "bid")  # keys of `node_config` that RunPod does not have


def gpus(node_config: Mapping[str, Any]) -> list[str]:
    """Return the GPU ids in order of preference."""
    wanted = node_config["gpu"]["id"]
    return [wanted] if isinstance(wanted, str) else list(wanted)


def check_node_config(name: str, node_config: Mapping[str, Any]) -> None:
    """Raise RunPodError for a node_config from which no pod can be created."""
    where = f"available_node_types.{name}.node_config"
    gpu = node_config.get("gpu")
    if not isinstance(gpu, dict) or not gpu.get("id"):
        raise RunPodError(f"{where}.gpu={gpu!r}: give it an id, or a list of them, as in `runpodctl gpu list`")
    if not (node_config.get("image") or node_config.get("templateId")):
        raise RunPodError(f"{where} has no image; for example runpod/pytorch:2.8.0-py3.11-cuda12.8.1")
    for key in ADDED_KEYS:
        value = node_config.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise RunPodError(f"{where}.{key}={value!r}: give dollars per hour, above 0")
