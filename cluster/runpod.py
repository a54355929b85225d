"""A Ray node provider for RunPod: `provider: {type: external, module: cluster.runpod.RunPodNodeProvider}`.

A node is a pod. `node_config` is the body of POST /v2/pods with three additions: `gpu.id` may be a list, tried in that
order; `max_price` bounds the price of a pod, in dollars per hour; `bid`, in dollars per hour and GPU, makes it a spot
pod. The class runs on the user's machine (`ray up`) and on the head (the autoscaler).
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ray.autoscaler.node_launch_exception import NodeLaunchException
from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_NODE_NAME

from cluster.api import ALIVE, DEAD, HEADS_KEY, URL, NoCapacity, RunPod, RunPodError, api_key
from cluster.node_config import ADDED_KEYS, check_node_config, gpus
from cluster.ssh import PodCommandRunner
from cluster.tags import Tags, creation_env, pods_of

logger = logging.getLogger(__name__)
CHECKOUT = Path(__file__).resolve().parents[1]
FRESH_S = 3.0  # the oldest listing to reuse; RunPod allows about 60 calls a minute, and set-up lists every few seconds
SSH = "22/tcp"
KEY_FILE = "~/.ssh/espalier_runpod"  # created if the cluster's file names no key


class RunPodNodeProvider(NodeProvider):
    """Pods as Ray nodes. Raises RunPodError, whose message has a remedy and which `ray up` shows in one line."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._api = RunPod(api_key(), provider_config.get("api_url", URL))
        self._tags = Tags(cluster_name)
        self._lock = threading.Lock()
        self._pods: dict[str, dict[str, Any]] = {}
        self._listed = -FRESH_S
        # Ray caches the result of `bootstrap_config` by the text of the file alone, so another checkout with an equal
        # file would get this checkout's code. The key is private to Ray: tests/e2e/test_private_names.py checks it.
        if cached := provider_config.get("_config_cache_path"):
            Path(cached).unlink(missing_ok=True)

    @staticmethod
    def bootstrap_config(cluster_config: dict[str, Any]) -> dict[str, Any]:
        """Check the configuration before anything costs money, and create a key pair if there is none.

        Relative file mounts are resolved from the checkout. Ray would resolve them from the working directory, which
        may be a home folder.
        """
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
                raise RunPodError(
                    f"auth.ssh_private_key={private} is not a file; create one with ssh-keygen -f {private}"
                )
            private.parent.mkdir(mode=0o700, exist_ok=True)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)], check=True)
        # Ray copies this key to the head with the rsync options of the checkout.
        left_out = [one for one in cluster_config.get("rsync_exclude", []) if fnmatch(private.name, one)]
        if left_out:
            raise RunPodError(
                f"auth.ssh_private_key={private} would not reach the head, because rsync_exclude has {left_out[0]!r}:"
                " rename it, or use a key of the cluster's own: leave ssh_private_key out"
            )
        done = subprocess.run(["ssh-keygen", "-y", "-f", str(private)], capture_output=True, text=True)
        if done.returncode:
            raise RunPodError(f"auth.ssh_private_key={private} cannot be read: {done.stderr.strip()}")
        auth["ssh_private_key"] = str(private)  # ssh does not expand ~
        cluster_config["provider"]["public_key"] = done.stdout.strip()
        return cluster_config

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        """Return the pods that are alive or starting. Terminate workers that have stopped by themselves."""
        pods = self._refreshed(max_age_s=0.0)
        for pod in pods.values():
            if pod["status"] in DEAD and self._tags.of(pod).get(TAG_RAY_NODE_KIND) != NODE_KIND_HEAD:
                self._terminated(pod["id"])  # a spot pod that RunPod has stopped still costs its disk
        return self._matching([pod for pod in pods.values() if pod["status"] in ALIVE], tag_filters)

    def nodes_for_teardown(self, tag_filters: dict[str, str]) -> list[str]:
        """Return all pods, including a stopped head, because it still costs its disk."""
        return self._matching(list(self._refreshed(max_age_s=0.0).values()), tag_filters)

    def is_running(self, node_id: str) -> bool:
        """Return whether the pod runs and can be reached by SSH."""
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

    def external_ip(self, node_id: str) -> str | None:  # type: ignore[override]  # None until it has one
        pod = self._pod(node_id)
        return _ssh(pod)["host"] if pod and self.is_running(node_id) else None

    def internal_ip(self, node_id: str) -> str | None:  # type: ignore[override]
        pod = self._pod(node_id)
        return (pod.get("globalNetworking") or {}).get("ip") if pod and pod["status"] == "RUNNING" else None

    def ssh_port(self, node_id: str, private: bool) -> int:
        """Return 22 for access from another pod; from outside, the port that RunPod currently maps to 22."""
        pod = self._pod(node_id)
        return 22 if private or not pod else int(_ssh(pod).get("port", 22))

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Create `count` pods with these tags. Return id -> pod. Raise RunPodError."""
        if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
            dead = [pod for pod in self._refreshed(0.0).values() if pod["status"] in DEAD]
            if stopped := self._matching(dead, {TAG_RAY_NODE_KIND: NODE_KIND_HEAD}):
                raise RunPodError(
                    f"the head of {self.cluster_name}, pod {stopped[0]}, was stopped:"
                    " start it at https://console.runpod.io/pods, or terminate it with `ray down`"
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
        """Create pods for the autoscaler. `ray status` shows a NodeLaunchException."""
        try:
            return self.create_node(node_config, tags, count)
        except RunPodError as error:
            raise NodeLaunchException(type(error).__name__, str(error), None) from error

    def terminate_node(self, node_id: str) -> None:
        """Terminate a pod, but not the one that this process runs on.

        Ray's autoscaler would terminate its own head when it sees Ray stop there, which `ray up` does for a moment.
        """
        if node_id == os.environ.get("RAY_CLOUD_INSTANCE_ID"):
            logger.info("%s is the head itself: only `ray down` on another machine terminates it", node_id)
            return
        self._api.terminate(node_id)
        with self._lock:
            self._pods.pop(node_id, None)

    def terminate_nodes(self, node_ids: list[str]) -> None:
        """Terminate each pod even if others fail, the head last. Raise RunPodError for those that still cost."""
        heads = self._matching(list(self._refreshed(FRESH_S).values()), {TAG_RAY_NODE_KIND: NODE_KIND_HEAD})
        refused = {}
        for node_id in sorted(node_ids, key=lambda one: one in heads):
            try:
                self.terminate_node(node_id)
            except RunPodError as error:
                refused[node_id] = error.message
        if refused:
            failed = "; ".join(f"{node_id} ({why})" for node_id, why in refused.items())
            raise RunPodError(
                f"still costing: {failed}. Run `ray down` again, or terminate at https://console.runpod.io/pods"
            )

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
        """Return a runner without Docker, because a pod is a container itself."""
        return PodCommandRunner(log_prefix, node_id, self, auth_config, cluster_name, process_runner, use_internal_ip)

    def _create(self, node_config: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
        """Rent a pod with the first GPU that is available at the price."""
        body = {name: value for name, value in node_config.items() if name not in ADDED_KEYS}
        env = {**body.get("env", {}), **creation_env(self.cluster_name, tags)}
        env |= {"PUBLIC_KEY": self.provider_config.get("public_key", "")}
        if tags.get(TAG_RAY_NODE_KIND) == NODE_KIND_HEAD:
            env[HEADS_KEY] = api_key()
        body |= {"env": env, "startSsh": True, "ports": sorted({*body.get("ports", []), SSH})}
        ceiling, count, refused = node_config.get("max_price"), body["gpu"].get("count", 1), []
        # None: nothing is checked before, because there is no ceiling, or because the bid is the price.
        prices = self._api.prices(body.get("cloud", "SECURE"), count) if ceiling and "bid" not in node_config else None
        for gpu in gpus(node_config):
            if prices is not None and gpu not in prices:
                refused.append(f"{gpu}: its price is not listed, and max_price={ceiling}")
                continue
            if prices is not None and (price := count * prices[gpu]) > ceiling:
                refused.append(f"{gpu}: {price:.2f} dollars per hour is more than max_price={ceiling}")
                continue
            name = f"{tags.get(TAG_RAY_NODE_NAME, self.cluster_name)}-{uuid.uuid4().hex[:8]}"
            asked = body | {"name": name, "gpu": {**body["gpu"], "id": gpu}}
            try:
                pod = self._api.create(asked, node_config.get("bid"))
            except NoCapacity as error:
                refused.append(f"{gpu}: {error.message}")
                continue
            cost = float(pod.get("cost") or 0.0)
            if ceiling and not 0 < cost <= ceiling:  # the billed price may differ from the listed one
                self._api.terminate(pod["id"])
                said = f"costs {cost:.2f} dollars per hour" if cost else "has no price"
                refused.append(f"{gpu}: its pod {said}, max_price={ceiling}")
                continue
            return pod
        reasons = "\n  ".join(refused)
        raise NoCapacity(
            f"no pod is available:\n  {reasons}\nadd GPUs or data centers, raise max_price,"
            " or correct node_config as stated above"
        )

    def _matching(self, pods: list[dict[str, Any]], wanted: Mapping[str, str]) -> list[str]:
        return [pod["id"] for pod in pods if wanted.items() <= self._tags.of(pod).items()]

    def _pod(self, node_id: str) -> dict[str, Any] | None:
        return self._refreshed(FRESH_S).get(node_id)

    def _refreshed(self, max_age_s: float) -> dict[str, dict[str, Any]]:
        """Return this cluster's pods by id, without those that are gone.

        A second pod of one name is terminated at once: it comes from a call that was retried after its answer was lost.
        """
        with self._lock:
            if time.monotonic() - self._listed < max_age_s:
                return dict(self._pods)
            found: dict[str, dict[str, Any]] = {}
            names, tagged = (
                set[str](),
                self._tags.ids(),
            )  # read before the listing: another process may create a pod meanwhile
            for pod in (pod for pod in pods_of(self._api.pods(), self.cluster_name) if pod["status"] in ALIVE + DEAD):
                if pod["name"] not in names or not self._terminated(pod["id"]):
                    found[pod["id"]] = pod
                names.add(pod["name"])
            self._pods, self._listed = found, time.monotonic()
            self._tags.forget(tagged - found.keys())
            return dict(self._pods)

    def _terminated(self, pod_id: str) -> bool:
        """Terminate an unused pod. If that fails, log it; the next listing tries again."""
        try:
            self._api.terminate(pod_id)
        except RunPodError as error:
            logger.warning("%s still costs: %s", pod_id, error.message)
            return False
        return True


def _ssh(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return host, port and user of the pod's SSH; empty until it has them."""
    return (pod.get("ssh") or {}).get("direct") or {}
