"""No key in anything that a sweep and its commands leave: one of each kind is planted, used, and looked for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweeps.spec.checkout import ROOT
from tests.support.driving import MINIATURES, environment, wait_for
from tests.support.endpoint_kit import Server
from tests.support.ports import answers, free_port
from tests.support.s3_kit import S3

BUCKET = "planted-bucket"  # no secret: the search must find it
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDMIRRORKEYID",  # which S3 sends in clear text; here it is in headers alone
    "AWS_SECRET_ACCESS_KEY": "planted0mirror0secret0key",
    "TEACHER_KEY": "sk-planted0teacher0key",
    "JUDGE_KEY": "sk-planted0judge0key",
    "OPENAI_API_KEY": "sk-planted0openai0key",
    "HF_TOKEN": "hf_planted0hub0token",
    "RUNPOD_API_KEY": "rpa_planted0runpod0key",
    "RAY_AUTH_TOKEN": "planted0ray0token0planted0ray0token",
}
PASSWORD = "planted0mlflow0password"


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="keys-", dir="/tmp"))  # a short path: it holds sockets
    yield made
    shutil.rmtree(made, ignore_errors=True)


@contextmanager
def command_lines(found: set[str]) -> Iterator[None]:
    """Collect the command lines of all processes of this machine, but this one, while the block runs."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for one in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    found.add(one.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:
                    continue  # it has ended

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    port = free_port()
    folder.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    env = environment() | {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db"}
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True, env=env)
    try:
        wait_for(lambda: answers(port))
        yield port
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def judged(messages: list[dict[str, str]]) -> str:
    criteria = ("originality", "coherence", "depth", "engagement", "craft")
    return "\n".join([*(f"{name}: A=3 B=3" for name in criteria), "Winner: Tie"])


@pytest.mark.slow
def test_no_key_is_left_anywhere(tmp_path, ray_folder):
    """A sweep with a mirror and an MLflow server, then rationales and judges of two endpoints."""
    bucket, teacher, judge = S3(), Server(), Server(says=judged)
    teacher.says = lambda _: f"Snow is cold. So the answer is {'Yes' if len(teacher.chats) <= 8 else 'No'}."
    lines: set[str] = set()
    said = ""
    teacher.key, judge.key = KEYS["TEACHER_KEY"], KEYS["JUDGE_KEY"]
    mirror = ["--mirror", bucket.uri(f"{BUCKET}/runs")]
    commands = [
        [f"{ROOT}/sweeps/arena.py", *MINIATURES["arena"], "--name", "arena", "--learner", "lora", *mirror],
        ["-m", "espalier_console", "status", "runs/arena"],
        ["-m", "espalier_console", "judge", "runs/arena", "--judge", judge.url, "--model", "mini", "--key-variable",
         "JUDGE_KEY", "--trials", "best", "untouched"],
        ["-m", "espalier_console", "rationales", "r.jsonl", "--teacher", teacher.url, "--model", "mini",
         "--key-variable", "TEACHER_KEY", "--task.train-size", "8", "--samples", "2"],
        ["-m", "espalier_console", "doctor"],
    ]  # fmt: skip
    (tmp_path / "espalier_console.py").write_text("from sweeps.cli.main import console\nconsole()\n")
    with mlflow_server(tmp_path / "server") as port, command_lines(lines):
        planted = environment() | KEYS | {"RAY_AUTH_MODE": "token", "RAY_TMPDIR": str(ray_folder)}
        planted |= {"MLFLOW_TRACKING_URI": f"http://me:{PASSWORD}@127.0.0.1:{port}"}
        planted |= {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
        for words in commands:
            done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=planted, capture_output=True, text=True,
                                  timeout=600, check=False)  # fmt: skip
            said += done.stdout + done.stderr
            assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: doctor found something
    assert judge.headers[-1]["Authorization"] == f"Bearer {KEYS['JUDGE_KEY']}"
    assert teacher.headers[-1]["Authorization"] == f"Bearer {KEYS['TEACHER_KEY']}"
    assert any(f"Credential={KEYS['AWS_ACCESS_KEY_ID']}" in one for one in bucket.signed), "the key was used"

    left = {f"printed by {len(commands)} commands": said.encode(), "command lines": "\n".join(lines).encode()}
    left |= {f"{BUCKET}: {name}": content for name, content in bucket.objects.items()}
    for folder in (tmp_path, ray_folder):
        left |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_socket()}
    with_bucket = {name for name, content in left.items() if BUCKET.encode() in content}
    assert {str(tmp_path / "runs/arena/sweep.yaml"), "command lines"} <= with_bucket, "the search finds what is there"
    assert any(name.startswith(str(ray_folder)) for name in left)
    assert any(b"espalier.trial_id" in content for name, content in left.items() if name.endswith("server/mlflow.db"))
    for name, secret in (KEYS | {"MLflow's password": PASSWORD}).items():
        assert not [place for place, content in left.items() if secret.encode() in content], name
    for one in (bucket, teacher, judge):
        one.close()
