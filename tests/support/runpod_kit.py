"""A provider, and what its tests ask it for."""

from __future__ import annotations

from ray.autoscaler.tags import (
    NODE_KIND_HEAD,
    NODE_KIND_WORKER,
    TAG_RAY_LAUNCH_CONFIG,
    TAG_RAY_NODE_KIND,
    TAG_RAY_NODE_NAME,
)

from cluster.runpod import RunPodNodeProvider
from tests.support.api_server import Account

HEAD = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_NODE_NAME: "ray-c-head", TAG_RAY_LAUNCH_CONFIG: "abc"}
WORKER = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER, TAG_RAY_NODE_NAME: "ray-c-worker"}
CONFIG = {
    "gpu": {"id": ["NVIDIA RTX A4000", "NVIDIA RTX A5000"], "count": 1},
    "image": "runpod/pytorch:2.8.0-py3.11-cuda12.8.1",
    "globalNetworking": True,
}


def provider(account: Account, cluster: str = "c") -> RunPodNodeProvider:
    config = {"type": "external", "api_url": f"http://127.0.0.1:{account.port}", "public_key": "ssh-ed25519 AAAA me"}
    return RunPodNodeProvider(config, cluster)
