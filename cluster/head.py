"""Access to the head of a running cluster by SSH: commands, tunnels and files."""

from __future__ import annotations

import contextlib
import io
import select
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

# Ray has no public API for the head of a cluster. These names are private; tests/e2e/test_private_names.py checks them.
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND

from cluster.host_keys import REFUSED, changed_key_error, host_key_options

TUNNEL_S = 60.0  # for opening a tunnel
NETWORK = {10, 12, 30, 35, 255}  # exit statuses of rsync for a failed connection; 255 is from ssh


class Head:
    """The head. Raise click.ClickException (RunPodError is one) if there is none, OSError if it is unreachable."""

    def __init__(self, config_file: Path) -> None:
        config = read(config_file)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # Ray's launcher prints every step
                config = _bootstrap_config(config, no_config_cache=True)
                provider = _get_node_provider(config["provider"], config["cluster_name"])
        except (LookupError, TypeError, ValueError, AttributeError, NotImplementedError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise click.ClickException(
                f"--cluster {config_file}: Ray refuses it ({reason}); compare it with cluster.yaml"
            ) from error
        nodes = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: NODE_KIND_HEAD})
        if not nodes:
            raise click.ClickException(f"cluster {config['cluster_name']!r} has no head: run `ray up {config_file}`")
        self._node = nodes[0]
        self._ssh = provider.get_command_runner(
            "", self._node, config["auth"], config["cluster_name"], subprocess, use_internal_ip=False
        )

    def run(self, command: str) -> str:
        """Run a command and return its output. Raise OSError if it fails, RunPodError if the host key has changed."""
        done = subprocess.run([*self._ssh_command(), "--", command], capture_output=True, text=True)
        self._check_host_key(done.stderr)
        if done.returncode:
            raise OSError(f"{command!r} on the head: {done.stderr.strip() or f'exit status {done.returncode}'}")
        return done.stdout

    def token(self) -> str:
        """Return the token that Ray on the head requires; empty if it requires none. Raise OSError."""
        return self.run("cat ~/.ray/auth_token 2> /dev/null || true").strip()

    def fetch(self, source: str, target: Path) -> None:
        """Copy the files and folders below a folder of the head to `target`; no links and no devices.

        A link could lead what is written later, or what is read and published, out of `target`. Raise OSError, or
        click.ClickException if `target` cannot be written.
        """
        *ssh, where = self._ssh_command()
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.ClickException(f"{target} cannot be created: {error.strerror}") from error
        rsh = subprocess.list2cmdline(ssh)
        kept = ["--recursive", "--times", "--perms", "--no-links", "--no-devices", "--no-specials", "--chmod=u+rwX"]
        call = ["rsync", *kept, "--compress", "--rsh", rsh, f"{where}:{source}/", f"{target}/"]
        done = subprocess.run(call, capture_output=True, text=True)
        self._check_host_key(done.stderr)
        if done.returncode in NETWORK:
            raise OSError(f"rsync of {source} from the head: {done.stderr.strip()}")
        if done.returncode:
            raise click.ClickException(f"{source} of the head cannot be copied to {target}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def tunnel(self, port: int, local: int | None = None) -> Iterator[int]:
        """Forward a port of the head's 127.0.0.1 to ours: to `local`, or to a free port. Raise OSError.

        ssh runs its LocalCommand only when it listens on the local port itself: it ends before if another process took
        the port. To connect to the port would prove nothing, and the next request carries Ray's token.
        """
        local = local or free_port()
        forward = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}"]
        ready = ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo ready"]
        *ssh, where = self._ssh_command()
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [*ssh, *forward, *ready, where], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
            try:
                if not _first_line(process):
                    errors.seek(0)
                    self._check_host_key(errors.read())
                    raise OSError(
                        f"no SSH tunnel to port {port} of the head; is the cluster up, and is there a network?"
                    )
                yield local
            finally:
                process.terminate()
                process.wait()

    def _check_host_key(self, stderr: str) -> None:
        """Raise RunPodError if this is what ssh prints about a host key that has changed."""
        if REFUSED in stderr:
            raise changed_key_error(self._node)

    def _ssh_command(self) -> list[str]:
        """Return the `ssh` command with Ray's options, the address last. Its connection ends with the process."""
        with contextlib.redirect_stdout(io.StringIO()):
            target = self._ssh._get_ssh_target()
        options = self._ssh.ssh_options.to_ssh_options_list(timeout=30)
        own = {"ControlMaster": "no", "ControlPath": "none", "BatchMode": "yes", "LogLevel": "ERROR"}
        own |= host_key_options(
            self._node
        )  # Ray's runner for machines of one's own checks none; the first value counts
        stated = [word for name, value in own.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", *stated, *options, f"{self._ssh.ssh_user}@{target}"]


def read(config_file: Path) -> dict[str, Any]:
    """Read a cluster's file. Raise click.ClickException if it is not one."""
    try:
        config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no text, or a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise click.ClickException(
            f"--cluster {config_file} cannot be read ({reason}); give a file such as cluster.yaml"
        ) from error
    parts = config if isinstance(config, dict) else {}
    if not isinstance(parts.get("provider"), dict) or not isinstance(parts.get("cluster_name"), str):
        raise click.ClickException(f"--cluster {config_file} is not a cluster's file such as cluster.yaml")
    return config


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return the first line of output; an empty one if the process ends before, or prints none in TUNNEL_S."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], TUNNEL_S)
    return process.stdout.readline() if ready else b""


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
