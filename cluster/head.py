"""The head of a running cluster, from the user's machine: commands, tunnels and files, all by SSH."""

from __future__ import annotations

import contextlib
import io
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

# Ray has no public way to a cluster's head: these are private, see tests/e2e/test_private_names.py.
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND

TUNNEL_S = 60.0  # until a tunnel must stand
NETWORK = {10, 12, 30, 35, 255}  # exit statuses of rsync that are the connection's; 255 is ssh's own


class Head:
    """Raises click.ClickException (RunPodError is one) where there is none, and OSError where it is out of reach."""

    def __init__(self, config_file: Path) -> None:
        config = read(config_file)
        with contextlib.redirect_stdout(io.StringIO()):  # Ray's launcher tells all that it does
            config = _bootstrap_config(config, no_config_cache=True)
            provider = _get_node_provider(config["provider"], config["cluster_name"])
        nodes = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_HEAD})
        if not nodes:
            raise click.ClickException(f"cluster {config['cluster_name']!r} has no head: run `ray up {config_file}`")
        self._ssh = provider.get_command_runner(
            "", nodes[0], config["auth"], config["cluster_name"], subprocess, use_internal_ip=False
        )

    def run(self, command: str) -> str:
        """What a command prints. Raises OSError."""
        done = subprocess.run([*self._call(), "--", command], capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"{command!r} on the head: {done.stderr.strip() or f'exit status {done.returncode}'}")
        return done.stdout

    def token(self) -> str:
        """What Ray on the head asks of its clients; empty where it asks for nothing. Raises OSError."""
        return self.run("cat ~/.ray/auth_token 2> /dev/null || true").strip()

    def fetch(self, source: str, target: Path) -> None:
        """A folder of the head into a folder here. Raises OSError; click.ClickException where this disk refuses it."""
        *ssh, where = self._call()
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f"{target} cannot be made: {error.strerror}") from error
        rsh = subprocess.list2cmdline(ssh)
        call = ["rsync", "--archive", "--compress", "--rsh", rsh, f"{where}:{source}/", f"{target}/"]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode in NETWORK:
            raise OSError(f"rsync of {source} from the head: {done.stderr.strip()}")
        if done.returncode:
            raise click.ClickException(f"{source} of the head cannot come to {target}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def tunnel(self, port: int, local: int | None = None) -> Iterator[int]:
        """A port of the head's own 127.0.0.1 on ours: `local`, or one that is free. Raises OSError."""
        local = local or free_port()
        forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}"]
        *ssh, where = self._call()
        process = subprocess.Popen([*ssh, *forward, where], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + TUNNEL_S
            while not answers(local):
                if process.poll() is not None or time.monotonic() > end:
                    raise OSError(
                        f"no SSH tunnel to port {port} of the head; is the cluster up, and is there a network?"
                    )
                time.sleep(0.2)
            yield local
        finally:
            process.terminate()
            process.wait()

    def _call(self) -> list[str]:
        """`ssh` with Ray's options for this head and its address last, on a connection that ends with the process."""
        with contextlib.redirect_stdout(io.StringIO()):
            target = self._ssh._get_ssh_target()
        options = self._ssh.ssh_options.to_ssh_options_list(timeout=30)
        own = ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
        return ["ssh", *own, *options, f"{self._ssh.ssh_user}@{target}"]


def read(config_file: Path) -> dict[str, Any]:
    """A cluster's file. Raises click.ClickException."""
    try:
        config = yaml.safe_load(config_file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise click.ClickException(f"--cluster {config_file} cannot be read: {error}") from error
    if not isinstance(config, dict) or not {"cluster_name", "provider"} <= config.keys():
        raise click.ClickException(f"--cluster {config_file} is not a cluster's file, as cluster.yaml is")
    return config


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
