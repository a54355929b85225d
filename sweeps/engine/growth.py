"""A cluster's nodes: how many there may be, what is there and what an autoscaler may add, and where trials run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ray
import yaml

from trainables.host_actor import SEAT_CPU

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # `ray up` leaves it on the head, for the autoscaler


@dataclass(frozen=True)
class Capacity:
    """Cores and GPUs of all nodes that may be there, and cores of the smallest."""

    cores: float
    gpus: float
    smallest: float
    grows: bool = False

    def trials(self, resources: Mapping[str, float]) -> int | None:
        """How many trials of these resources it holds at its largest; None where it does not grow, and Ray knows."""
        if not self.grows:
            return None
        sizes = {"cpu": self.cores, "gpu": self.gpus}
        return max(1, min((int(sizes[name] // n) for name, n in resources.items() if n and name in sizes), default=1))


def capacity(bootstrap: Path | None) -> Capacity:
    """Of the cluster that Ray is connected to; with the file of its autoscaler, if it has one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    cores, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
    smallest = min((node["CPU"] for node in nodes if "CPU" in node), default=1.0)
    if bootstrap is None or not bootstrap.expanduser().is_file():
        return Capacity(cores, gpus, smallest)
    config = yaml.safe_load(bootstrap.expanduser().read_text())
    kinds = dict(config["available_node_types"])
    head = kinds.pop(config["head_node_type"])["resources"]
    most_cores, most_gpus, left = float(head.get("CPU", 0)), float(head.get("GPU", 0)), config.get("max_workers", 0)
    for kind in kinds.values():
        count = min(left, kind.get("max_workers", left))
        left -= count
        most_cores += count * kind["resources"].get("CPU", 0)
        most_gpus += count * kind["resources"].get("GPU", 0)
        smallest = min(smallest, kind["resources"].get("CPU", math.inf) if count else math.inf)
    return Capacity(max(cores, most_cores), max(gpus, most_gpus), smallest, grows=True)


def seat_resources() -> dict[str, float]:
    """Of a trial whose work is done by a host: it runs on this node, whose disk keeps its checkpoints.

    So hosts may be anywhere without a disk that all nodes share, and may vanish.
    """
    return {"cpu": SEAT_CPU, f"node:{ray.util.get_node_ip_address()}": 0.0001}
