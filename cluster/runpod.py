"""A Ray node provider for RunPod: `provider: {type: external, module: cluster.runpod.RunPodNodeProvider}`.

A node is a pod. `node_config` is the body of POST /v2/pods with three liberties: `gpu.id` may be a list, tried in that
order; `max_price` is the most that a pod may cost, in dollars an hour; `bid` makes it a spot pod, for so many dollars
an hour and GPU. The same class runs on the user's machine (`ray up`) and on the head (the autoscaler).
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME

from cluster.api import ALIVE, DEAD, HEADS_KEY, URL, NoCapacity, RunPod, RunPodError, api_key
from cluster.node_config import OURS, check_node_config, gpus
from cluster.ssh import PodCommandRunner
from cluster.tags import Tags, at_birth, owned

logger = logging.getLogger(__name__)
CHECKOUT = Path(__file__).resolve().parents[1]
FRESH_S = 3.0  # how old a listing may be; RunPod takes some 60 calls a minute, and set-up asks every few seconds
SSH = "22/tcp"
KEY_FILE = "~/.ssh/espalier_runpod"  # made where the cluster's file names no key


class RunPodNodeProvider(NodeProvider):
    """Pods as nodes. Errors say what to do (`RunPodError`, which `ray up` shows in one line)."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._api = RunPod(api_key(), provider_config.get("api_url", URL))
        self._tags = Tags(cluster_name)
        self._lock = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        self._listed = -FRESH_S
        # Ray caches what `bootstrap_config` made of a file by its words alone: another checkout's would get our code.
        # The key is private to Ray: tests/e2e/test_private_names.py.
        if kept := provider_config.get("_config_cache_path"):
            Path(kept).unlink(missing_ok=True)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Checks what costs nothing to check, and gives the cluster a key pair if it has none. The checkout goes to its
        nodes, wherever the command is given: Ray would take the present folder, which may be a whole home."""
        for name, kind in cluster_config["available_node_types"].items():
            check_node_config(name, kind.get("node_config", {}))
        api_key()
        mounts = cluster_config.get("file_mounts", {})
        cluster_config["file_mounts"] = {
            there: str(CHECKOUT / Path(here).expanduser()) for there, here in mounts.items()
        }
        auth = cluster_config.setdefault("auth", {})
        auth.setdefault("ssh_user", "root")
        private = Path(auth.setdefault("ssh_private_key", KEY_FILE)).expanduser()
        if not private.is_file():
            if auth["ssh_private_key"] != KEY_FILE:
                raise RunPodError(f"auth.ssh_private_key={private} is no file; make one with ssh-keygen -f {private}")
            private.parent.mkdir(mode=0o700, exist_ok=True)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)], check=True)
        done = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True)
        if done.returncode:
            raise RunPodError(f"auth.ssh_private_key={private} cannot be read: {done.stderr.strip()}")
        auth["ssh_private_key"] = str(private)  # ssh does not read ~ as Python does
        cluster_config["provider"]["public_key"] = done.stdout.strip()
        return cluster_config

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Pods that are alive, those that still start too. Workers that ended by themselves are given back."""
        pods = self._refreshed(max_age_s=0.0)
        for pod in pods.values():
            if pod["status"] in DEAD and self._tags.of(pod).get(TAG_RAY_NODE_KIND) != NODE_KIND_HEAD:
                self._cleared(pod["id"])  # a spot pod that was taken back still costs its disk
        return self._matching([pod for pod in pods.values() if pod["status"] in ALIVE], tag_filters)

    def nodes_for_teardown(self, tag_filters: dict[str, str]) -> list[str]:
        """With a head that somebody stopped: it still costs its disk."""
        return self._matching(list(self._refreshed(max_age_s=0.0).values()), tag_filters)

    def is_running(self, node_id: str) -> bool:
        """Whether it runs and can be reached."""
        pod = self._pod(node_id)
        return bool(pod and pod["status"] == "RUNNING" and _ssh(pod))

    def is_terminated(self, node_id: str) -> bool:
        pod = self._pod(node_id)
        return pod is None or pod["status"] not in ALIVE

    def node_tags(self, node_id: str) -> dict[str, str]:
        pod = self._pod(node_id)
        return self._tags.of(pod) if pod else {}

    def set_node_tags(self, node_id: str, tags: dict[str, str]) -> None:
        self._tags.set(node_id, tags)

    def external_ip(self, node_id: str) -> str | None:  # type: ignore[override]  # None: not yet
        pod = self._pod(node_id)
        return _ssh(pod)["host"] if pod and self.is_running(node_id) else None

    def internal_ip(self, node_id: str) -> str | None:  # type: ignore[override]
        pod = self._pod(node_id)
        return (pod.get("globalNetworking") or {}).get("ip") if pod and pod["status"] == "RUNNING" else None

    def ssh_port(self, node_id: str, private: bool) -> int:
        """22 from another pod; from outside the port that RunPod maps to it now."""
        pod = self._pod(node_id)
        return 22 if private or not pod else int(_ssh(pod).get("port", 22))

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """`count` pods with these tags; id -> pod. Raises RunPodError."""
        if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
            dead = [pod for pod in self._refreshed(0.0).values() if pod["status"] in DEAD]
            if stopped := self._matching(dead, {TAG_RAY_NODE_KIND: NODE_KIND_HEAD}):
                raise RunPodError(
                    f"the head of {self.cluster_name}, pod {stopped[0]}, was stopped:"
                    " start it at https://console.runpod.io/pods, or give it back with `ray down`"
                )
        made = [self._create(node_config, tags) for _ in range(count)]
        with self._lock:
            self._pods |= {pod["id"]: pod for pod in made}
        return {pod["id"]: pod for pod in made}

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> dict[str, Any]:
        """The autoscaler's call; what fails is then in `ray status`."""
        try:
            return self.create_node(node_config, tags, count)
        except RunPodError as error:
            raise NodeLaunchException(type(error).__name__, str(error), None) from error

    def terminate_node(self, node_id: str) -> None:
        """But not the pod that this process runs on: Ray's autoscaler gives back its own head when it sees it stop,
        as `ray up` makes it do for a moment."""
        if node_id == os.environ.get("RAY_CLOUD_INSTANCE_ID"):
            logger.info("%s is the head itself: only `ray down` from elsewhere gives it back", node_id)
            return
        self._api.terminate(node_id)
        with self._lock:
            self._pods.pop(node_id, None)

    def terminate_nodes(self, node_ids: list[str]) -> None:
        """Each, whatever becomes of the others: one that is refused costs on alone. The head last, which could tell of
        the others. Raises RunPodError."""
        heads = self._matching(list(self._refreshed(FRESH_S).values()), {TAG_RAY_NODE_KIND: NODE_KIND_HEAD})
        refused = {}
        for node_id in sorted(node_ids, key=lambda one: one in heads):
            try:
                self.terminate_node(node_id)
            except RunPodError as error:
                refused[node_id] = error.message
        if refused:
            said = "; ".join(f"{node_id} ({why})" for node_id, why in refused.items())
            raise RunPodError(f"still costing: {said}. `ray down` again, or https://console.runpod.io/pods")

    def get_command_runner(
        self,
        log_prefix: str,
        node_id: str,
        auth_config: dict[str, Any],
        cluster_name: str,
        process_runner: Any,
        use_internal_ip: bool,
        docker_config: dict[str, Any] | None = None,
    ) -> PodCommandRunner:
        """A pod is a container: there is no Docker inside."""
        return PodCommandRunner(log_prefix, node_id, self, auth_config, cluster_name, process_runner, use_internal_ip)

    def _create(self, node_config: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """A pod with the first of the GPUs that is to be had at the price."""
        body = {name: value for name, value in node_config.items() if name not in OURS}
        env = {**body.get("env", {}), **at_birth(self.cluster_name, tags)}
        env |= {"PUBLIC_KEY": self.provider_config.get("public_key", "")}
        if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
            env[HEADS_KEY] = api_key()
        body |= {"env": env, "startSsh": True, "ports": sorted({*body.get("ports", []), SSH})}
        ceiling, count, refused = node_config.get("max_price"), body["gpu"].get("count", 1), []
        prices = self._api.prices(body.get("cloud", "SECURE"), count) if ceiling and "bid" not in node_config else {}
        for gpu in gpus(node_config):
            if (price := count * prices.get(gpu, 0.0)) > (ceiling or price):
                refused.append(f"{gpu}: {price:.2f} dollars an hour are more than max_price={ceiling}")
                continue
            name = f"{tags.get(TAG_RAY_NODE_NAME, self.cluster_name)}-{uuid.uuid4().hex[:8]}"
            asked = body | {"name": name, "gpu": {**body["gpu"], "id": gpu}}
            try:
                pod = self._api.create(asked, node_config.get("bid"))
            except NoCapacity as error:
                refused.append(f"{gpu}: {error.message}")
                continue
            if ceiling and float(pod.get("cost") or 0.0) > ceiling:  # what is billed is not always the list's price
                self._api.terminate(pod["id"])
                refused.append(f"{gpu}: its pod costs {pod['cost']:.2f} dollars an hour, max_price={ceiling}")
                continue
            return pod
        said = "\n  ".join(refused)
        raise NoCapacity(
            f"no pod to be had:\n  {said}\nadd GPUs or data centers, raise max_price, or mend node_config as it says"
        )

    def _matching(self, pods: list[dict[str, Any]], wanted: Mapping[str, str]) -> list[str]:
        return [pod["id"] for pod in pods if wanted.items() <= self._tags.of(pod).items()]

    def _pod(self, node_id: str) -> dict[str, Any] | None:
        return self._refreshed(FRESH_S).get(node_id)

    def _refreshed(self, max_age_s: float) -> dict[str, dict[str, Any]]:
        """This cluster's pods by id, without those that are gone.

        A second pod of one name is given back at once: it is of a call whose answer was lost and that was repeated.
        """
        with self._lock:
            if time.monotonic() - self._listed < max_age_s:
                return dict(self._pods)
            found: dict[str, dict[str, Any]] = {}
            names, tagged = set[str](), self._tags.ids()  # before: a pod that another process makes now is not listed
            for pod in (pod for pod in owned(self._api.pods(), self.cluster_name) if pod["status"] in ALIVE + DEAD):
                if pod["name"] not in names or not self._cleared(pod["id"]):
                    found[pod["id"]] = pod
                names.add(pod["name"])
            self._pods, self._listed = found, time.monotonic()
            self._tags.forget(tagged - found.keys())
            return dict(self._pods)

    def _cleared(self, pod_id: str) -> bool:
        """Gives back what nobody works on. If that is refused, the next listing tries again: the others are needed."""
        try:
            self._api.terminate(pod_id)
        except RunPodError as error:
            logger.warning("%s still costs: %s", pod_id, error.message)
            return False
        return True


def _ssh(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Host, port and user, once there are any."""
    return (pod.get("ssh") or {}).get("direct") or {}
