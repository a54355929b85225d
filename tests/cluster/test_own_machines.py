"""`ray up cluster/local.yaml` on two machines that are there already, reached by SSH, without a disk in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support.driving import MINIATURES, contents
from tests.support.pods import PRIVATE, ROOT, Pods, run, why_not
from trainables.runtime.base_transfer import COPY_MARKER

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

CHAIN = [*MINIATURES["strategyqa"], "--finalists", "0", "--no-report", "--storage-path", "/root/chain"]


def test_machines_of_ones_own_become_a_cluster(tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    pods = Pods(tmp_path)
    machines = [
        {"id": f"pod{number:03d}", "env": {"PUBLIC_KEY": key.with_suffix(".pub").read_text()}, "globalNetworking": {}}
        for number in (101, 102)
    ]
    config = yaml.safe_load((ROOT / "cluster/local.yaml").read_text())
    config["provider"] |= {"head_ip": f"{PRIVATE}.102", "worker_ips": [f"{PRIVATE}.103"]}
    config |= {"auth": {"ssh_user": "root", "ssh_private_key": str(key)}, "min_workers": 1, "max_workers": 1}
    start = [one for one in config["head_start_ray_commands"] if "espalier ui" not in one]
    # Without a core, so that hosts are on the other machine.
    config["head_start_ray_commands"] = [one.replace("ray start", "ray start --num-cpus=0") for one in start]
    config["setup_commands"][0] = f"ln -sfn {sys.prefix} ~/espalier/.venv"
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(config))

    def ray(*command: str | Path) -> str:
        env = os.environ | {"HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0", "RAY_UP_enable_autoscaler_v2": "0"}
        call = [Path(sys.executable).with_name("ray"), *command]
        done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    try:
        for machine in machines:
            pods.start(machine)
            run("ip", "-n", machine["id"], "route", "replace", "default", "via", f"{PRIVATE}.1")  # its one address
        ray("up", "-y", "--no-config-cache", file)
        code = (
            "import ray, time; ray.init(log_to_driver=False); end = time.time() + 90\n"
            "while len(ray.nodes()) < 2 and time.time() < end: time.sleep(1)\n"
            "print('nodes:', sorted(node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']))"
        )
        said = ray("exec", file, f'python -c "{code}"')
        assert f"nodes: ['{PRIVATE}.102', '{PRIVATE}.103']" in said
        ray("submit", file, ROOT / "sweeps/strategyqa.py", *CHAIN)
        merged = Path("root/chain/strategyqa/strategyqa-sft/merged")
        first, second = (contents(pods.folder / machine["id"] / merged) for machine in machines)
        assert second == first | {COPY_MARKER: b""}, "the other machine's host has the first phase's winner"
        table = pd.read_parquet(pods.folder / "pod101" / merged.parents[1] / "strategyqa-cot/trials.parquet")
        assert {*table["status"]} <= {"finished", "pruned"}, "as ASHA says"
        ray("down", "-y", file)
        assert "raylet" not in pods.titles("pod101"), "on the others Ray ends when it has missed the head for a minute"
    finally:
        pods.close()
