"""Connections to a head through a real sshd: host keys, what is copied from there, and local tunnels."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND

from cluster.api import RunPodError
from cluster.head import Head, free_port
from cluster.host_keys import known_hosts
from cluster.runpod import RunPodNodeProvider
from cluster.ssh import PodCommandRunner
from sweeps.resources.ray_job import NOT_SENT
from tests.support.api_server import wait_until
from tests.support.runpod_kit import CONFIG

ROOT = Path(__file__).resolve().parents[2]
SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(SSHD is None or not shutil.which("rsync"), reason="needs openssh-server and rsync")


@dataclass
class Machine:
    """A pod whose sshd runs on this machine."""

    folder: Path
    account: object
    port: int
    config: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self, host_key: str) -> None:
        """Start its sshd with this host key, instead of the one that ran."""
        self.stop()
        key = self.folder / host_key
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        options = [
            f"ListenAddress=127.0.0.1:{self.port}", f"HostKey={key}", "PidFile=none", "UsePAM=no", "StrictModes=no",
            f"AuthorizedKeysFile={self.folder / 'authorized_keys'}",
        ]  # fmt: skip
        words = [word for option in options for word in ("-o", option)]
        self.process = subprocess.Popen([str(SSHD), "-D", "-f", "/dev/null", *words], stderr=subprocess.DEVNULL)
        wait_until(self.answers, 10, "sshd")

    def answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()

    def provider(self) -> RunPodNodeProvider:
        return RunPodNodeProvider(yaml.safe_load(self.config.read_text())["provider"], "c")

    @contextlib.contextmanager
    def runner(self) -> Iterator[PodCommandRunner]:
        """Yield what `ray up` reaches the pod with."""
        provider, user = self.provider(), getpass.getuser()
        (node,) = provider.non_terminated_nodes({})
        auth = {"ssh_user": user, "ssh_private_key": str(self.folder / "user")}
        runner = provider.get_command_runner("", node, auth, "c", subprocess, use_internal_ip=False)
        try:
            yield runner
        finally:  # Ray shares connections for ten seconds
            options = runner.ssh_options.to_ssh_options_list()
            subprocess.run(["ssh", "-O", "exit", *options, f"{user}@127.0.0.1"], capture_output=True)

    def ray_runs(self, command: str) -> None:
        """Run a command as `ray up` does."""
        with self.runner() as runner:
            runner.run(command)


@pytest.fixture
def machine(account, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root demands it
    user = tmp_path / "user"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(user)], check=True)
    shutil.copy(user.with_suffix(".pub"), tmp_path / "authorized_keys")
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text()) | {"cluster_name": "c"}
    config["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": str(user)}
    config["provider"]["api_url"] = f"http://127.0.0.1:{account.port}"
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(config))
    made = Machine(tmp_path, account, free_port(), file)

    def start(pod):
        pod["ssh"] = {"direct": {"host": "127.0.0.1", "port": made.port, "username": getpass.getuser()}}
        pod["status"] = "RUNNING"

    account.on_start = start
    made.provider().create_node(CONFIG, {TAG_RAY_NODE_KIND: NODE_KIND_HEAD}, 1)
    yield made
    made.stop()


def test_a_changed_host_key_is_refused_with_a_remedy_that_works(machine):
    machine.start("first")
    assert Head(machine.config).run("echo there") == "there\n"
    machine.ray_runs("true")
    assert known_hosts().stat().st_mode & 0o077 == 0
    assert known_hosts().parent.stat().st_mode & 0o077 == 0
    machine.start("second")
    with pytest.raises(
        RunPodError, match=r"^the SSH host key of pod001 has changed: .*ssh-keygen -f \S+ -R pod001$"
    ) as refused:
        Head(machine.config).run("touch reached")
    with pytest.raises(RunPodError, match="host key of pod001 has changed"):
        machine.ray_runs("touch reached")
    with pytest.raises(RunPodError, match="host key of pod001 has changed"), Head(machine.config).tunnel(8265):
        pass
    with pytest.raises(RunPodError, match="host key of pod001 has changed"):
        Head(machine.config).fetch(str(machine.folder), machine.folder / "home")
    assert not (Path.home() / "reached").exists()
    subprocess.run(refused.value.message.rpartition(": ")[2].split(), check=True, capture_output=True)
    assert Head(machine.config).run("echo there") == "there\n"


def test_a_command_that_fails_is_no_changed_host_key(machine):
    machine.start("first")
    machine.ray_runs("true")
    with pytest.raises(Exception, match=r"(?i)command failed|status 3") as failed:
        machine.ray_runs("exit 3")
    assert "host key" not in str(failed.value)


def test_a_port_that_another_process_took_first_is_not_used(machine):
    """It answers at once, and would get Ray's token."""
    machine.start("first")
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        with (
            pytest.raises(OSError, match="no SSH tunnel to port 8265"),
            Head(machine.config).tunnel(8265, thief.getsockname()[1]),
        ):
            pass


def test_a_tunnel_leads_to_the_head(machine):
    machine.start("first")
    with Head(machine.config).tunnel(machine.port) as local, socket.create_connection(("127.0.0.1", local)) as through:
        assert through.recv(8).startswith(b"SSH-2.0")


def test_what_is_copied_from_the_head_has_no_links(machine):
    """A link to a folder, which a later copy would write into, and one to a file, which an export would publish."""
    machine.start("first")
    outside, there, home = machine.folder / "outside", machine.folder / "there", machine.folder / "home"
    for folder in (outside, there / "plots"):
        folder.mkdir(parents=True)
    (there / "trials.parquet").write_text("table")
    (there / "plots/a.png").write_text("figure")
    (there / "best").symlink_to(outside)
    (there / "notes.txt").symlink_to(machine.folder / "user")
    Head(machine.config).fetch(str(there), home)
    (there / "best").unlink()
    (there / "best").mkdir()
    (there / "best/config.yaml").write_text("written through the link")
    Head(machine.config).fetch(str(there), home)
    assert (home / "trials.parquet").read_text() == "table"
    assert (home / "plots/a.png").read_text() == "figure"
    assert not (home / "notes.txt").exists()
    assert list(outside.iterdir()) == []
    assert not [path for path in home.rglob("*") if path.is_symlink()]


SECRET = (".env", ".env.local", "deep/.env", "server.pem", "deep/tls.key", "id_rsa", "id_ed25519.pub", "deep/id_ecdsa")
SENT = ("sweeps/arena.py", "environment.py", "deep/keys.py")


def checkout(folder: Path) -> Path:
    for name in (*SECRET, *SENT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    return folder


@pytest.mark.parametrize("file", ["cluster.yaml", "cluster/local.yaml"])
def test_ray_up_leaves_keys_and_passwords_of_the_checkout_behind(machine, file):
    machine.start("first")
    config = yaml.safe_load((ROOT / file).read_text())
    options = {name: config[name] for name in ("rsync_exclude", "rsync_filter")}
    with machine.runner() as runner:
        runner.run_rsync_up(f"{checkout(machine.folder / 'checkout')}/", f"{machine.folder}/there/", options)
    sent = {str(path.relative_to(machine.folder / "there")) for path in (machine.folder / "there").rglob("*.*")}
    assert sent == {*SENT}


def test_jobs_leave_keys_and_passwords_of_the_checkout_behind(tmp_path):
    package = tmp_path / "package.zip"
    create_package(str(checkout(tmp_path / "checkout")), package, include_gitignore=True, excludes=NOT_SENT)
    assert {name for name in ZipFile(package).namelist() if not name.endswith("/")} == {*SENT}


def test_a_key_that_would_not_arrive_is_refused(account, tmp_path):
    """Ray copies it to the head with the options of the checkout."""
    key = tmp_path / "own.pem"
    key.touch()
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text()) | {"auth": {"ssh_private_key": str(key)}}
    with pytest.raises(RunPodError, match=r"ssh_private_key=\S+own\.pem.*rsync_exclude.*\*\.pem.*rename"):
        RunPodNodeProvider.bootstrap_config(config)
