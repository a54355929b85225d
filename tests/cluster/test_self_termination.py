"""A worker whose head is lost terminates its own pod."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import with_envs

from cluster.runpod import RunPodNodeProvider
from tests.support.api_server import KEY, Account, wait_until
from tests.support.pods import PRIVATE, PUBLIC, ROOT, Pods, why_not
from tests.support.runpod_kit import CONFIG, HEAD, WORKER

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
RAY = Path(sys.executable).with_name("ray")
WATCH = "-m cluster.self_termination"


def test_a_worker_ends_itself_when_its_head_is_lost_and_not_before(tmp_path, monkeypatch):
    """With the command of cluster.yaml, but for seconds instead of minutes."""
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    commands = yaml.safe_load((ROOT / "cluster.yaml").read_text())["worker_start_ray_commands"]
    (command,) = (one for one in commands if WATCH in one)
    pods = Pods(tmp_path)
    account = Account(pods.start, pods.end)
    api = f"http://{PUBLIC}.1:{account.port}"
    command = command.replace("--minutes 15", f"--minutes 0.3 --url {api}").replace("python", sys.executable)
    assert api in command
    provider = RunPodNodeProvider({"api_url": api, "public_key": key.with_suffix(".pub").read_text()}, "c")

    def run(node: str, line: str, **environment: str) -> None:
        auth = {"ssh_user": "root", "ssh_private_key": str(key)}
        runner = provider.get_command_runner("", node, auth, "c", subprocess, use_internal_ip=False)
        runner.run(*with_envs([line], {"RAY_CLOUD_INSTANCE_ID": node, **environment}))  # as Ray sets them

    def alive() -> list[str]:
        return [pod["id"] for pod in account.alive()]

    def watches() -> list[str]:
        return [line for line in pods.titles(worker).splitlines() if WATCH in line and "bash" not in line]

    try:
        (head,), (worker,) = provider.create_node(CONFIG, HEAD, 1), provider.create_node(CONFIG, WORKER, 1)
        wait_until(lambda: all("sshd: " in pods.titles(node) for node in (head, worker)), 20, "sshd")
        run(head, f"{RAY} start --head --port=6379 --num-cpus=1 --object-store-memory=100000000")
        run(worker, f"ln -sfn {ROOT} ~/espalier")
        run(worker, command, RAY_HEAD_IP="192.0.2.1")  # of a head before this one; nothing answers there
        wait_until((tmp_path / worker / "root/.config/espalier/self_termination.pid").exists, 20, "the first watch")
        run(worker, command, RAY_HEAD_IP=f"{PRIVATE}.2")
        wait_until(lambda: len(watches()) == 1 and f"{PRIVATE}.2:6379" in watches()[0], 20, "the second watch alone")
        assert worker in alive(), (tmp_path / worker / "root/self_termination.log").read_text()
        account.end(head)
        wait_until(lambda: worker not in alive(), 90, "the worker's end")
        assert account.calls[f"DELETE /v2/pods/{worker}"] == 1
    finally:
        account.close()
        pods.close()
