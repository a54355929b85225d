"""Connect to the Ray cluster of a sweep, and find out how large it can become."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml
from ray._private import utils, worker
from ray.tune.execution import class_cache
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweeps.persistence.number_variables import OF_THREADS, used
from sweeps.persistence.provenance import python_path
from sweeps.resources.environment import NO_DEVICE, silence_ray
from sweeps.resources.home import private_folder
from trainables.bad_input import BadInput, one_line, shortened

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # `ray up` leaves it on the head, for the autoscaler
PORT = re.compile("[0-9]{1,5}")
OTHER_VERSION = "Version mismatch"  # in Ray's error
OBJECT_STORE = 200_000_000  # bytes; trials exchange configurations, not data
TUNES_VARIABLES = dict(class_cache.DEFAULT_ENV_VARS)  # of trials
# After a driver was killed, the other processes of its Ray end by themselves when they have missed the head for so many
# seconds; Ray's default is 60. A local head never comes back.
WITHOUT_HEAD = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}


@dataclass(frozen=True)
class Capacity:
    """The size that a cluster can reach: cores and GPUs of all nodes, cores of the smallest node, number of nodes.

    `memory`: the bytes of each node that is up, as Ray gives them out; none if an autoscaler may add others.
    """

    cores: float
    gpus: float
    smallest: float
    nodes: int = 1
    autoscaler: Mapping[str, Any] | None = None  # its configuration, if there is one
    memory: Sequence[float] = ()

    def trials(self, resources: Mapping[str, float]) -> int:
        """Return how many trials with these resources fit on the cluster at its largest."""
        sizes = {"cpu": self.cores, "gpu": self.gpus}
        return max(1, min((int(sizes[name] // n) for name, n in resources.items() if n and name in sizes), default=1))

    def check(self, resources: Mapping[str, float]) -> None:
        """Raise BadInput if not even one trial fits: Ray would wait for ever, without a message."""
        for name, there in (("cpu", self.cores), ("gpu", self.gpus)):
            if resources.get(name, 0) > there:
                raise BadInput(
                    f"--resources.{name} {resources[name]:g}:", f"there are {there:g} here", "ask for no more"
                )


def capacity(bootstrap: Path | None) -> Capacity:
    """Return the capacity of the connected cluster. `bootstrap` is the file of its autoscaler, if it has one."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    cores, gpus = total.get("CPU", 1.0), total.get("GPU", 0.0)
    smallest = min((node["CPU"] for node in nodes if "CPU" in node), default=1.0)
    if bootstrap is None or not bootstrap.expanduser().is_file():
        return Capacity(cores, gpus, smallest, len(nodes), memory=[node.get("memory", 0.0) for node in nodes])
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


def bfloat16_speedups() -> list[float]:
    """Measure every machine of the connected cluster that is up, see `cpu_dtype.bfloat16_speedup`."""
    from trainables.models.cpu_dtype import bfloat16_speedup  # imports torch, which a sweep without bases does not need

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) == 1:  # this one: a process of Ray would take seconds to import torch
        return [bfloat16_speedup()]
    there = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    measure = ray.remote(num_cpus=0)(bfloat16_speedup)
    return ray.get([measure.options(scheduling_strategy=one).remote() for one in there])


def worker_environment() -> dict[str, str]:
    """Return variables of worker processes: they run this checkout, import nothing from the folder that they start in,
    print little, see no GPU unless they ask for one, and compute as `sweep.yaml` says."""
    plain = {"PYTHONPATH": python_path(), "PYTHONSAFEPATH": "1", "TRANSFORMERS_VERBOSITY": "error", NO_DEVICE: "1"}
    return plain | used()


def start_local(**settings: Any) -> None:
    """Start Ray on this machine, and connect to it: `ray.init` with these settings. Raises Ray's plain exceptions.

    Its workers inherit the variables of this process. A `runtime_env`, Ray's or one that Tune adds for trials, would
    make each of them import Ray twice, a second of CPU time: once to set variables, and again in a new Python.
    """
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    class_cache.DEFAULT_ENV_VARS.clear()
    own = worker_environment() | TUNES_VARIABLES | WITHOUT_HEAD
    before = {name: os.environ.get(name) for name in (*own, *OF_THREADS)}
    for name in OF_THREADS:
        os.environ.pop(name, None)  # Ray sets what is not set, to a worker's own cores
    os.environ.update(own)
    try:
        with signals_are_ours():
            ray.init(address="local", **settings)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    node: Any = worker._global_node
    for info in (one for of_kind in node.all_processes.values() for one in of_kind):
        info.process.terminate = partial(_kill_with_children, info.process)  # which `ray.shutdown` calls


def _kill_with_children(process: subprocess.Popen) -> None:
    """Kill a process that no other signal ends, and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        for one in (*(own := psutil.Process(process.pid)).children(recursive=True), own):
            one.kill()


@contextmanager
def signals_are_ours() -> Iterator[None]:
    """While Ray starts, keep it from handling this process's SIGTERM, and its processes from getting signals with it.

    `timeout`, a shell and a terminal that closes send theirs to a group of processes, systemd and SLURM to all of a
    service or a job. The driver stops in order and needs its Ray until then: without it Ray's code in C++ ends the
    driver at once. So Ray's processes get groups of their own, and what they start inherits that SIGTERM and SIGHUP
    are blocked, as Ray itself blocks SIGINT.
    """
    set_handler, die_with_parent = utils.set_sigterm_handler, utils.set_kill_on_parent_death_linux
    ours, mask = signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def begin() -> None:  # in each new process, before its program
        os.setpgid(0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
        die_with_parent()

    utils.set_sigterm_handler, utils.set_kill_on_parent_death_linux = lambda handler: None, begin
    try:
        yield
    finally:
        utils.set_sigterm_handler, utils.set_kill_on_parent_death_linux = set_handler, die_with_parent
        if threading.current_thread() is threading.main_thread():  # no other one may set it
            signal.signal(signal.SIGTERM, ours or signal.SIG_DFL)  # in place of that of Ray's C++ code, which aborts
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def keep_keys_from_trials() -> None:
    """Stop Tune from passing AWS keys to trials, which need none: Ray shows their variables in `ps` and in its logs."""
    names = class_cache.ENV_VARS_TO_PROPAGATE
    names.difference_update([name for name in names if name.startswith("AWS_")])


@contextmanager
def cluster(address: str | None, verbose: bool, dashboard: bool = False) -> Iterator[Capacity]:
    """Connect to the cluster at `address` or RAY_ADDRESS, or start one on this machine. Yield its capacity.

    If neither is set and this process is connected already, as in a notebook, that connection is used and kept.
    `dashboard` starts Ray's dashboard, which Ray Train needs. Raises BadInput if no cluster answers.
    """
    silence_ray(verbose)
    keep_keys_from_trials()
    address = address or os.environ.get("RAY_ADDRESS")
    if not address and ray.is_initialized():
        yield capacity(BOOTSTRAP)
        return
    check_address(address or "local")
    settings: dict[str, Any] = {"log_to_driver": verbose, "configure_logging": verbose}
    address = address or "local"
    try:
        protect_token()
        if address == "local":
            settings |= {"include_dashboard": dashboard, "object_store_memory": OBJECT_STORE}
            settings |= {"_temp_dir": str(private_folder() / "ray")} if "RAY_TMPDIR" not in os.environ else {}
            start_local(**settings)
        else:
            _check_port(address)
            with signals_are_ours():
                ray.init(address=address, runtime_env={"env_vars": worker_environment()}, **settings)
    except Exception as error:  # Ray raises plain exceptions here
        if address == "local":
            remedy = "is the machine overloaded? Try again"
            if isinstance(error, OSError):
                remedy = "it needs a folder with a short path to write to, which RAY_TMPDIR names, else /tmp"
            raise BadInput("Ray", f"did not start ({error})", remedy) from error
        if OTHER_VERSION in str(error):
            why = one_line(error).partition(OTHER_VERSION)[2].lstrip(": ")
            remedy = "install the same versions here and there, or drop --address"
            raise BadInput(f"the Ray cluster at {address}", f"has another version ({why})", remedy) from error
        token = "" if "RAY_AUTH_MODE" in os.environ else ", or RAY_AUTH_MODE=token if it asks for one"
        remedy = f"run `ray start --head`, or drop --address{token}"
        why = shortened(one_line(error))
        raise BadInput(f"no Ray cluster answers at {address!r}", f"({why})", remedy) from error
    try:
        yield capacity(None if address == "local" else BOOTSTRAP)
    finally:
        ray.shutdown()


def protect_token() -> None:
    """Close the folder of Ray's token to other users: Ray writes the token with mode 0644."""
    folder = Path.home() / ".ray"
    with suppress(OSError):  # no home folder to write to: Ray says so itself
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)


def check_address(address: str) -> None:
    """Raise BadInput unless an address is one that Ray can have."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local") or (host and not set(host) & {*"/@ "} and PORT.fullmatch(port)):
        return
    given = "--address or RAY_ADDRESS"
    raise BadInput(f"{given} {address}", "is no HOST:PORT, ray://HOST:PORT, auto or local", "give one, or unset it")


def _check_port(address: str) -> None:
    """Raise OSError if nothing listens at the address. Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def seat_resources() -> dict[str, float]:
    """Return the resources of a trial whose work is done by a host or by worker processes.

    It runs on this node, whose disk keeps its checkpoints, so no disk must be shared and other nodes may vanish. It
    takes no core: hosts may have all of them, and their trials must not wait for one.
    """
    return {"cpu": 0, f"node:{ray.util.get_node_ip_address()}": 0.0001}
