"""Tags of nodes. Initial tags are in the pod's environment; later tags are in a file of the machine that sets them.

RunPod has no tags. A pod's kind (head or worker), its type and its configuration never change. They are set at its
creation, so they survive the machine that runs the provider. The status of a pod is known to the machine that sets it
up. If that file is lost, the machine repeats the set-up, which is harmless.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

CLUSTER, TAGS = "espalier_cluster", "espalier_tags"  # environment variables of a pod


def creation_env(cluster: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that hold the tags of a new pod."""
    return {CLUSTER: cluster, TAGS: json.dumps(dict(tags))}


def pods_of(pods: Iterable[dict[str, Any]], cluster: str) -> list[dict[str, Any]]:
    """Return the pods of this cluster among all pods of an account."""
    return [pod for pod in pods if (pod.get("env") or {}).get(CLUSTER) == cluster]


class Tags:
    """Tags of one cluster's pods. Safe for threads and processes of this machine."""

    def __init__(self, cluster: str) -> None:
        self._file = Path.home() / ".espalier" / f"{cluster}.tags.json"

    def of(self, pod: Mapping[str, object]) -> dict[str, str]:
        env = pod.get("env")
        initial = json.loads(env.get(TAGS, "{}")) if isinstance(env, dict) else {}
        return initial | self._read().get(str(pod["id"]), {})

    def set(self, pod_id: str, tags: Mapping[str, str]) -> None:
        with self._locked():
            known = self._read()
            known[pod_id] = known.get(pod_id, {}) | dict(tags)
            self._write(known)

    def ids(self) -> Set[str]:
        """Return the ids of the pods that have tags in the file."""
        return self._read().keys()

    def forget(self, pod_ids: Set[str]) -> None:
        """Remove the tags of pods that no longer exist. If that cannot be written, the next listing tries again."""
        if not pod_ids:
            return
        with suppress(OSError), self._locked():
            known = self._read()
            remaining = {pod_id: tags for pod_id, tags in known.items() if pod_id not in pod_ids}
            if remaining != known:
                self._write(remaining)

    def _locked(self) -> FileLock:
        """Return the lock that is held while tags are changed."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._file.with_suffix(".lock"))

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self._file.read_text())
        except (OSError, ValueError):  # missing, unreadable or damaged: as if it were lost
            return {}

    def _write(self, known: Mapping[str, Mapping[str, str]]) -> None:
        new = self._file.with_suffix(".new")  # the caller holds the lock
        new.write_text(json.dumps(known))
        os.replace(new, self._file)
