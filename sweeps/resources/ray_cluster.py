"""The cluster that a sweep runs on: how it is reached, how large it may become, and where trials run."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from sweeps.persistence.provenance import python_path
from sweeps.resources.environment import NO_DEVICE, silence_ray
from sweeps.spec.sweep import BadInput

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # `ray up` leaves it on the head, for the autoscaler
OBJECT_STORE = 200_000_000  # bytes; trials exchange configurations, not data


@dataclass(frozen=True)
class Capacity:
    """Cores and GPUs of all nodes that may be there, cores of the smallest, and how many nodes."""

    cores: float
    gpus: float
    smallest: float
    nodes: int = 1
    autoscaler: Mapping[str, Any] | None = None  # its configuration, where there is one

    def trials(self, resources: Mapping[str, float]) -> int:
        """How many trials of these resources it holds at its largest."""
        sizes = {"cpu": self.cores, "gpu": self.gpus}
        return max(1, min((int(sizes[name] // n) for name, n in resources.items() if n and name in sizes), default=1))

    def check(self, resources: Mapping[str, float]) -> None:
        """Raises BadInput where not even one trial has room: Ray would wait for ever, without a word."""
        for name, there in (("cpu", self.cores), ("gpu", self.gpus)):
            if resources.get(name, 0) > there:
                raise BadInput(f"--resources.{name} {resources[name]:g}: there are {there:g} here; ask for no more")


def capacity(bootstrap: Path | None) -> Capacity:
    """Of the cluster that Ray is connected to; with the file of its autoscaler, if it has one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    cores, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
    smallest = min((node["CPU"] for node in nodes if "CPU" in node), default=1.0)
    if bootstrap is None or not bootstrap.expanduser().is_file():
        return Capacity(cores, gpus, smallest, len(nodes))
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
    most = max(len(nodes), 1 + config.get("max_workers", 0))
    return Capacity(max(cores, most_cores), max(gpus, most_gpus), smallest, most, config)


def worker_environment() -> dict[str, Any]:
    """Ray's `runtime_env` of a sweep: its workers run this checkout, quietly, and see no device unless they ask."""
    return {"env_vars": {"PYTHONPATH": python_path(), "TRANSFORMERS_VERBOSITY": "error", NO_DEVICE: "1"}}


@contextmanager
def cluster(address: str | None, verbose: bool, dashboard: bool = False) -> Iterator[Capacity]:
    """A cluster of this machine alone, or the one that `address` or RAY_ADDRESS names; how large it may become.

    Where neither does, a process that has called `ray.init` before, as a notebook may have, keeps its Ray.
    `dashboard`: with Ray's, which Ray Train asks who lives. Raises BadInput if it is away.
    """
    silence_ray(verbose)
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and ray.is_initialized():
        yield capacity(BOOTSTRAP)
        return
    settings: dict[str, Any] = {
        "log_to_driver": verbose,
        "configure_logging": verbose,
        "runtime_env": worker_environment(),
    }
    address = address or "local"
    if address == "local":
        settings |= {"include_dashboard": dashboard, "object_store_memory": OBJECT_STORE}
    try:
        _knock(address)
        ray.init(address=address, **settings)
    except Exception as error:  # Ray raises plain exceptions here
        if address == "local":
            remedy = "is the machine overloaded? Try again"
            if isinstance(error, OSError):
                remedy = "it needs a folder to write to, which RAY_TMPDIR names, else /tmp"
            raise BadInput(f"Ray did not start ({error}); {remedy}") from error
        token = "" if "RAY_AUTH_MODE" in os.environ else ", or RAY_AUTH_MODE=token if it asks for one"
        remedy = f"run `ray start --head`, or drop --address{token}"
        raise BadInput(f"no Ray cluster answers at {address!r}; {remedy}") from error
    try:
        yield capacity(None if address == "local" else BOOTSTRAP)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray waits minutes for a head that is not there; a refused connection says so at once. Raises OSError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def seat_resources() -> dict[str, float]:
    """Of a trial whose work is done by a host, or a team: it runs on this node, whose disk keeps its checkpoints.

    So those may be anywhere without a disk that all nodes share, and may vanish. It takes no core: they may have them
    all, and no trial of theirs must wait for one.
    """
    return {"cpu": 0, f"node:{ray.util.get_node_ip_address()}": 0.0001}
