"""Terminate this worker's pod once the head has been silent for some minutes: `python -m cluster.self_termination`.

Only the autoscaler on the head and `ray down` terminate workers. When the head's pod is lost, the others would cost
money until someone notices. Ray on a worker is no sign of a head: it still runs minutes after the head's pod has
vanished. A new head has the minutes to take the worker over; it starts this again, with its own address.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from cluster.api import URL, RunPod, RunPodError, api_key
from cluster.user_config import config_folder

MODULE = "cluster.self_termination"
EVERY_S = 10.0  # between two looks
AGAIN_S = 60.0  # between two attempts to terminate the pod


def answers(head: str) -> bool:
    """Return whether Ray on the head, at HOST:PORT, accepts a connection."""
    host, _, port = head.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5):
        return True
    return False


def terminate(pod_id: str, url: str) -> None:
    """Terminate this pod with its own key, through the API or else through RunPod's program. Raise RunPodError."""
    try:
        RunPod(api_key(), url).terminate(pod_id)
    except RunPodError as error:
        program = shutil.which("runpodctl")  # RunPod's images have it
        if program is None:
            raise
        done = subprocess.run([program, "remove", "pod", pod_id], capture_output=True, text=True)
        if done.returncode:
            raise RunPodError(f"{error.message}; runpodctl: {done.stderr.strip() or done.stdout.strip()}") from error


def watch(head: str, pod_id: str, minutes: float, url: str) -> None:
    """Terminate the pod whenever the head has been silent for so many minutes, again and again until the pod ends."""
    seen = time.monotonic()
    while True:
        if answers(head):
            seen = time.monotonic()
        if time.monotonic() - seen < 60 * minutes:
            time.sleep(min(EVERY_S, 20 * minutes))
            continue
        print(f"the head {head} has been silent for {minutes:g} minutes: terminating {pod_id}", flush=True)
        try:
            terminate(pod_id, url)
        except RunPodError as error:
            print(f"{pod_id} still costs: {error.message}", flush=True)
        time.sleep(AGAIN_S)


def replace_running(file: Path) -> None:
    """End the process that watches already, for a head that may be gone, and note this one in the file."""
    with contextlib.suppress(OSError, ValueError):  # there is none, or it has ended
        known = int(file.read_text())
        if MODULE in Path(f"/proc/{known}/cmdline").read_text():
            os.kill(known, signal.SIGTERM)
    file.write_text(f"{os.getpid()}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", help="HOST:PORT of Ray on the head")
    parser.add_argument("--minutes", type=float, default=15.0, help="of silence, until the pod is terminated")
    parser.add_argument("--url", default=URL, help="of RunPod's API")
    given = parser.parse_args()
    pod_id = os.environ.get("RAY_CLOUD_INSTANCE_ID") or os.environ.get("RUNPOD_POD_ID")
    if not pod_id:
        sys.exit("neither RAY_CLOUD_INSTANCE_ID nor RUNPOD_POD_ID names this pod; Ray sets the first")
    replace_running(config_folder() / "self_termination.pid")
    watch(given.head, pod_id, given.minutes, given.url)


if __name__ == "__main__":
    main()
