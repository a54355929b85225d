"""The price of a cluster in dollars per hour, according to its provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster.api import ALIVE, URL, RunPod, api_key
from cluster.node_config import gpus
from cluster.runpod import RunPodNodeProvider
from cluster.tags import pods_of

PROVIDER = f"{RunPodNodeProvider.__module__}.{RunPodNodeProvider.__name__}"


def has_prices(config: Mapping[str, Any]) -> bool:
    """Return whether the provider in this cluster's file has prices."""
    return config["provider"].get("module") == PROVIDER


def current_rate(config: Mapping[str, Any]) -> float:
    """Return the billed price per hour of all pods that the cluster has now. Raise RunPodError."""
    own = pods_of(_api(config).pods(), config["cluster_name"])
    return sum(float(pod.get("cost") or 0.0) for pod in own if pod["status"] in ALIVE)


def price_per_node(config: Mapping[str, Any]) -> dict[str, float]:
    """Return node type -> price of a pod: of the first of its GPUs that is listed, or its bid. Raise RunPodError."""
    found = {}
    for name, kind in config["available_node_types"].items():
        node = kind["node_config"]
        count = node["gpu"].get("count", 1)
        if "bid" in node:
            found[name] = count * float(node["bid"])
            continue
        listed = _api(config).prices(node.get("cloud", "SECURE"), count)
        fitting = [count * listed[gpu] for gpu in gpus(node) if gpu in listed]
        affordable = [price for price in fitting if price <= node.get("max_price", price)]
        if affordable:
            found[name] = affordable[0]
    return found


def _api(config: Mapping[str, Any]) -> RunPod:
    return RunPod(api_key(), config["provider"].get("api_url", URL))
