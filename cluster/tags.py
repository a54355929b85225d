"""Tags of nodes: those of birth in the pod's own environment, later ones in a file of the machine that sets them.

RunPod has no tags. What a pod is (head or worker, its type, the configuration it was made from) never changes and is
given at its creation, so it survives whatever happens to the machine that runs the provider. How far it has come is
known to the machine that set it up; where the file is lost, that machine sets up again, which does no harm.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

CLUSTER, TAGS = "espalier_cluster", "espalier_tags"  # variables of a pod


def at_birth(cluster: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Variables for a new pod."""
    return {CLUSTER: cluster, TAGS: json.dumps(dict(tags))}


def owned(pods: Iterable[dict[str, Any]], cluster: str) -> list[dict[str, Any]]:
    """Those of an account's pods that are this cluster's."""
    return [pod for pod in pods if (pod.get("env") or {}).get(CLUSTER) == cluster]


class Tags:
    """Tags of one cluster's pods. Safe in threads; another process of this machine sees them at once."""

    def __init__(self, cluster: str) -> None:
        self._file = Path.home() / ".espalier" / f"{cluster}.tags.json"
        self._lock = threading.Lock()

    def of(self, pod: Mapping[str, object]) -> dict[str, str]:
        env = pod.get("env")
        born = json.loads(env.get(TAGS, "{}")) if isinstance(env, dict) else {}
        return born | self._read().get(str(pod["id"]), {})

    def set(self, pod_id: str, tags: Mapping[str, str]) -> None:
        with self._lock:
            known = self._read()
            known[pod_id] = known.get(pod_id, {}) | dict(tags)
            self._write(known)

    def keep(self, pod_ids: Iterable[str]) -> None:
        """Forget the pods that are gone; or later, where the disk refuses that now: pods are listed all the same."""
        with self._lock, suppress(OSError):
            known = self._read()
            left = {pod_id: known[pod_id] for pod_id in pod_ids if pod_id in known}
            if left != known:
                self._write(left)

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self._file.read_text())
        except (OSError, ValueError):  # none, out of reach, or damaged: as if it were lost
            return {}

    def _write(self, known: Mapping[str, Mapping[str, str]]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        beside = self._file.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(known))
        os.replace(beside, self._file)
