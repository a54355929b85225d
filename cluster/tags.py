"""Tags of nodes: those of birth in the pod's own environment, later ones in a file of the machine that sets them.

RunPod has no tags. What a pod is (head or worker, its type, the configuration it was made from) never changes and is
given at its creation, so it survives whatever happens to the machine that runs the provider. How far it has come is
known to the machine that set it up; where the file is lost, that machine sets up again, which does no harm.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

CLUSTER, TAGS = "espalier_cluster", "espalier_tags"  # variables of a pod


def at_birth(cluster: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Variables for a new pod."""
    return {CLUSTER: cluster, TAGS: json.dumps(dict(tags))}


def owned(pods: Iterable[dict[str, Any]], cluster: str) -> list[dict[str, Any]]:
    """Those of an account's pods that are this cluster's."""
    return [pod for pod in pods if (pod.get("env") or {}).get(CLUSTER) == cluster]


class Tags:
    """Tags of one cluster's pods. Safe in threads and in processes of this machine, which see them at once."""

    def __init__(self, cluster: str) -> None:
        self._file = Path.home() / ".espalier" / f"{cluster}.tags.json"

    def of(self, pod: Mapping[str, object]) -> dict[str, str]:
        env = pod.get("env")
        born = json.loads(env.get(TAGS, "{}")) if isinstance(env, dict) else {}
        return born | self._read().get(str(pod["id"]), {})

    def set(self, pod_id: str, tags: Mapping[str, str]) -> None:
        with self._locked():
            known = self._read()
            known[pod_id] = known.get(pod_id, {}) | dict(tags)
            self._write(known)

    def ids(self) -> Set[str]:
        """The pods that have tags here."""
        return self._read().keys()

    def forget(self, pod_ids: Set[str]) -> None:
        """Of the pods that are gone; or later, where the disk refuses that now: pods are listed all the same."""
        if not pod_ids:
            return
        with suppress(OSError), self._locked():
            known = self._read()
            left = {pod_id: tags for pod_id, tags in known.items() if pod_id not in pod_ids}
            if left != known:
                self._write(left)

    def _locked(self) -> FileLock:
        """While a change is read, made and written."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self._file.with_suffix(".lock"))

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            return json.loads(self._file.read_text())
        except (OSError, ValueError):  # none, out of reach, or damaged: as if it were lost
            return {}

    def _write(self, known: Mapping[str, Mapping[str, str]]) -> None:
        beside = self._file.with_suffix(".new")  # of whoever holds the lock
        beside.write_text(json.dumps(known))
        os.replace(beside, self._file)
