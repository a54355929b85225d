"""The price of a cluster in dollars per hour, according to its provider."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.api import ALIVE, RETRY_S, URL, RunPod, RunPodError, api_key
from cluster.node_config import gpus
from cluster.runpod import RunPodNodeProvider
from cluster.tags import pods_of

PROVIDER = f"{RunPodNodeProvider.__module__}.{RunPodNodeProvider.__name__}"
NOTICE_S = 5.0  # for a notice, which someone who leaves waits for


class UnknownPrice(RunPodError):
    """A pod runs and RunPod does not say what it costs."""


def has_prices(config: Mapping[str, Any]) -> bool:
    """Return whether the provider in this cluster's file has prices."""
    return config["provider"].get("module") == PROVIDER


def current_rate(config: Mapping[str, Any], retry_s: float = RETRY_S) -> float:
    """Return the billed price per hour of all pods that the cluster has now.

    Raise UnknownPrice if a running pod has none, and RunPodError if RunPod does not answer.
    """
    own = [pod for pod in pods_of(_api(config, retry_s).pods(), config["cluster_name"]) if pod["status"] in ALIVE]
    if unknown := [pod["id"] for pod in own if pod["status"] == "RUNNING" and not pod.get("cost")]:
        raise UnknownPrice(
            f"the price of {', '.join(unknown)} is not known, which counts as over every limit:"
            " see https://console.runpod.io/pods"
        )
    return sum(float(pod.get("cost") or 0.0) for pod in own)


def cost_notice(config: Mapping[str, Any], file: Path) -> str | None:
    """Return a line that says what the cluster costs until it is ended; None if it has no machines with a price."""
    if not has_prices(config):
        return None
    try:
        rate = current_rate(config, NOTICE_S)
    except RunPodError as error:
        return f"{config['cluster_name']} costs an unknown sum ({error.message}) until: ray down {file}"
    return f"{config['cluster_name']} costs {rate:.2f} dollars an hour until: ray down {file}" if rate else None


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


def _api(config: Mapping[str, Any], retry_s: float = RETRY_S) -> RunPod:
    return RunPod(api_key(), config["provider"].get("api_url", URL), retry_s)
