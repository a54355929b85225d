"""`ray up cluster.yaml` for real, against pods on this machine: a lost worker, leaving and joining, `ray down`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import yaml

from cluster.head import Head
from sweeps.results.run_folder import Run
from sweeps.results.tables import TRIALS
from sweeps.tracking.mlflow_store import TRIAL_TAG
from tests.support.api_server import KEY, Account, wait_until
from tests.support.pods import PUBLIC, ROOT, Pods, why_not

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
BIN = Path(sys.executable).parent
REDIS = 16379
QUICK = ["--task.search-size", "60", "--task.train-size", "160", "--finalists", "0", "--no-report"]


@dataclass
class Cluster:
    """A cluster that is up, and the user's machine."""

    account: Account
    pods: Pods
    folder: Path
    redis: bool

    @property
    def file(self) -> Path:
        return self.folder / "cluster.yaml"

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"RUNPOD_API_KEY": KEY, "HOME": str(self.folder), "RAY_USAGE_STATS_ENABLED": "0"}

    def call(self, *command: str | Path, seconds: float = 400, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [BIN / command[0], *command[1:]], cwd=cwd or self.folder, env=self.env, capture_output=True, text=True,
            timeout=seconds, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def sweep(self, *flags: str) -> tuple[subprocess.Popen[str], Path]:
        """`python sweeps/arena.py --cluster`, begun; with the file of what it says."""
        log = self.folder / f"{len(list(self.folder.glob('*.log')))}.log"
        command = [BIN / "python", ROOT / "sweeps/arena.py", "--cluster", self.file, *QUICK, *flags]
        with log.open("w") as out:
            started = subprocess.Popen(
                command, cwd=self.folder, env=self.env, stdout=out, stderr=subprocess.STDOUT, text=True
            )
        return started, log


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    pods = Pods(folder)
    account = Account(pods.start, pods.end)
    redis = start_redis(folder)
    cluster = Cluster(account, pods, folder, redis is not None)
    cluster.file.write_text(yaml.safe_dump(on_this_machine(account.port, with_redis=cluster.redis)))
    try:
        cluster.call("ray", "up", "-y", "--no-config-cache", cluster.file, cwd=ROOT)
        yield cluster
    finally:
        account.close()
        pods.close()
        if redis:
            redis.kill()


def start_redis(folder: Path) -> subprocess.Popen[bytes] | None:
    """Run Debian's redis-server on this machine, reachable for the pods."""
    if shutil.which("redis-server") is None:
        return None
    settings = ["--bind", f"{PUBLIC}.1", "--port", str(REDIS), "--protected-mode", "no", "--save", ""]
    return subprocess.Popen(["redis-server", *settings], cwd=folder, stdout=subprocess.DEVNULL)


def on_this_machine(port: int, with_redis: bool) -> dict:
    """The repository's cluster.yaml but for the API's address, the environment, which is here, and small nodes."""
    text = (ROOT / "cluster.yaml").read_text()
    if with_redis:
        text = text.replace("# - grep -q REDIS", "- grep -q REDIS").replace("HOST:6379", f"{PUBLIC}.1:{REDIS}")
        assert f"{PUBLIC}.1:{REDIS}" in text
    config = yaml.safe_load(text)
    config["provider"]["api_url"] = f"http://{PUBLIC}.1:{port}"
    assert config["setup_commands"][0] == "make -C ~/espalier .venv/.ready"
    config["setup_commands"][0] = f"ln -sfn {sys.prefix} ~/espalier/.venv"
    for kind in config["available_node_types"].values():
        kind["resources"] = {"CPU": 1}
    for part in ("head", "worker"):
        small = "ray start --object-store-memory=100000000"
        commands = config[f"{part}_start_ray_commands"]
        config[f"{part}_start_ray_commands"] = [one.replace("ray start", small) for one in commands]
    return config


def at_once(table: pd.DataFrame) -> int:
    """The most trials that were at work at one moment."""
    spans = table.groupby("trial_id")["at"].agg(["min", "max"])
    return max(int(((spans["min"] <= at) & (at <= spans["max"])).sum()) for at in spans["min"])


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / TRIALS)


def test_a_sweep_goes_on_when_a_worker_vanishes(up):
    """A head and two workers; one of them is taken back, as spot pods are, while its trials are at work."""
    rounds, count = 15, 9  # long enough that trials of all machines meet, on fast ones, too
    flags = ["--num-samples", str(count), "--rounds", str(rounds), "--grace-period", str(rounds), "--name", "lost"]
    started, log = up.sweep(*flags, "--hosts", "3", "--seats", "3")
    try:

        def at_work() -> list[str]:
            workers = [pod["id"] for pod in up.account.alive() if "-worker-" in pod["name"]]
            return [one for one in workers if len(workers) == 2 and "HostProcess.advance" in up.pods.titles(one)]

        found: list[str] = []
        wait_until(lambda: found.extend(at_work()) or found, 400, f"a worker that trains: {log}")
        lost = found[0]
        time.sleep(5)  # in the middle of its trials, some rounds in
        up.pods.end(up.account.pods[lost])
        up.account.pods[lost]["status"] = "EXITED"
        assert started.wait(timeout=900) == 0, log.read_text()[-3000:]
    finally:
        started.kill()
    table = trials(up.folder / "runs/lost")
    assert table["status"].unique().tolist() == ["finished"]
    by_trial = table.groupby("trial_id")["round"].apply(list)
    assert by_trial.tolist() == [list(range(1, rounds + 1))] * count, "no finished round was lost or done twice"
    assert at_once(table) > 4, "hosts that wait for a machine take none of the seats' room"
    assert up.account.pods[lost]["status"] == "TERMINATED", "what was left of it was given back"
    assert len(up.account.pods) >= 4, "the autoscaler replaced it"
    assert Run.read(up.folder / "runs/lost").end["dollars"] > 0

    longest = table.sort_values("round").groupby("trial_id")["at"].apply(lambda at: at.diff().max()).idxmax()
    said = up.call("espalier", "reproduce", up.folder / "runs/lost", "--trial", str(longest))
    assert "every answer scored the same" in said, "an interrupted trial is the same as one that was not"


def test_the_best_trial_is_in_mlflow_through_a_tunnel(up, monkeypatch):
    monkeypatch.setenv("HOME", str(up.folder))
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    best = Run.read(up.folder / "runs/lost").trial("best")
    with Head(up.file).tunnel(5000) as port:
        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        experiments = [one.experiment_id for one in client.search_experiments()]
        found = client.search_runs(experiments, "metrics.best_score > 0", order_by=["metrics.best_score DESC"])
    top = [one for one in found if one.data.metrics["best_score"] == found[0].data.metrics["best_score"]]
    assert best.score == pytest.approx(found[0].data.metrics["best_score"])
    assert best.trial_id in [one.data.tags.get(TRIAL_TAG) for one in top]


def test_a_sweep_is_left_joined_again_and_outlives_its_head(up):
    """Ctrl-C, joined, a lost connection, and the head gone with its disk. What is on the volume, the sweep and MLflow's
    database, is enough; Redis remembers the job."""
    rounds, count = 20, 3  # many, so that the head dies in the middle of them
    sizes = f"--num-samples {count} --rounds {rounds} --grace-period {rounds} --seats 3 --hosts 1 --max-cost 5"
    started, log = up.sweep(*(flags := [*sizes.split(), "--name", "headless"]))
    there = up.pods.shared / "runs/headless"
    began = re.compile(r"trial 0 \(\w+\) started")
    wait_until(lambda: began.search(log.read_text()), 400, f"the first trial: {log}")
    started.send_signal(signal.SIGINT)
    started.wait(timeout=60)
    assert f"join again with: espalier status headless --cluster {up.file}" in log.read_text()
    joined = subprocess.Popen(
        [BIN / "espalier", "status", "--cluster", up.file],
        cwd=up.folder, env=up.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said = ""
    for line in joined.stdout:
        said += line
        if began.search(line):
            for ssh in psutil.Process(joined.pid).children():
                ssh.kill()
        if "lost the head" in line:
            break
    wait_until(lambda: (there / TRIALS).is_file() and trials(there)["round"].max() > 2, 400, f"trials at work: {log}")
    lost = next(pod for pod in up.account.alive() if "-head-" in pod["name"])
    up.pods.end(lost)
    lost["status"] = "TERMINATED"
    said += joined.communicate(timeout=400)[0]
    assert len(began.findall(said)) == 1, "from its beginning, and nothing twice"
    assert joined.returncode == 2, said
    assert "has no head: run `ray up" in said
    before = trials(there)
    up.call("ray", "up", "-y", "--no-config-cache", up.file, cwd=ROOT)
    if up.redis:
        said = up.call("espalier", "status", "--cluster", up.file)
        assert f"Go on with the same flags and: --cluster {up.file} --name headless --resume" in said
    again, log = up.sweep(*flags, "--resume", "--trust", "folder")  # a lost head takes its key along
    assert again.wait(timeout=900) == 0, log.read_text()[-3000:]
    assert f"brought home: {up.folder / 'runs/headless'}" in log.read_text()
    after = trials(up.folder / "runs/headless")
    assert after["status"].unique().tolist() == ["finished"]
    assert after.groupby("trial_id")["round"].apply(list).tolist() == [list(range(1, rounds + 1))] * count
    kept = before.merge(after, on=["trial_id", "round"], suffixes=("", "_after"))
    assert len(kept) == len(before) > 3
    assert (kept["at"] == kept["at_after"]).mean() > 0.5, "finished rounds were not done again, but for the last ones"


def test_what_the_head_refuses_is_told_here(up):
    started, log = up.sweep("--name", "nowhere", "--resume")
    assert started.wait(timeout=120) == 1, log.read_text()
    assert "--resume: there is no sweep in /workspace/runs/nowhere" in log.read_text()
    assert "failed and left no folder" in log.read_text()
    started, log = up.sweep("--name", "lost")
    assert started.wait(timeout=60) == 2, "it would be brought home over the one that is there"
    assert "runs/lost exists" in log.read_text()


def test_rays_own_commands_work(up):
    """On the head, a script finds the cluster and its MLflow without flags; unpacked, it needs no common disk."""
    assert "1 head" in up.call("ray", "exec", up.file, "ray status")
    attach = ["script", "-qec", f"{BIN / 'ray'} attach {up.file}", "/dev/null"]  # it wants a terminal
    typed = "echo mark-$((6 * 7)) $(which espalier); exit\n"
    shell = subprocess.run(attach, input=typed, env=up.env, cwd=up.folder, capture_output=True, text=True, timeout=60)
    assert "mark-42 /root/espalier/.venv/bin/espalier" in shell.stdout
    script = ROOT / "sweeps/arena.py"
    flags = ["--num-samples", "1", "--rounds", "1", "--learner", "lora", "--seats", "1"]
    said = up.call("ray", "submit", up.file, script, *QUICK, *flags)
    assert "http://127.0.0.1:5000" in said
    assert "cannot tell" in said or "1 trial" in said


def test_ray_down_leaves_no_pod_and_no_process(up):
    running = list(up.pods.processes.values())
    up.call("ray", "down", "-y", up.file)
    assert up.account.alive() == []
    assert up.pods.processes == {}
    assert all(process.poll() is not None for process in running)
