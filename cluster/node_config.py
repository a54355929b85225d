"""What a cluster's file says of a pod: the body of POST /v2/pods, and three liberties (see `cluster/runpod.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.api import RunPodError

OURS = ("max_price", "bid")  # words of `node_config` that are not RunPod's


def gpus(node_config: Mapping[str, Any]) -> list[str]:
    """GPU ids in order of preference."""
    wanted = node_config["gpu"]["id"]
    return [wanted] if isinstance(wanted, str) else list(wanted)


def check_node_config(name: str, node_config: Mapping[str, Any]) -> None:
    """Raises RunPodError for what no pod could be made of."""
    where = f"available_node_types.{name}.node_config"
    gpu = node_config.get("gpu")
    if not isinstance(gpu, dict) or not gpu.get("id"):
        raise RunPodError(f"{where}.gpu={gpu!r}: give it an id, or a list of them, as in `runpodctl gpu list`")
    if not (node_config.get("image") or node_config.get("templateId")):
        raise RunPodError(f"{where} has no image; for example runpod/pytorch:2.8.0-py3.11-cuda12.8.1")
    for word in OURS:
        value = node_config.get(word)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise RunPodError(f"{where}.{word}={value!r}: dollars an hour, above 0")
