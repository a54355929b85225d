"""SSH from Ray to a pod: through a mapped port from outside, at the private address from another pod."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

# This class and the methods that we override are private: Ray has one SSH port for all nodes.
# tests/e2e/test_private_names.py checks them.
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler.tags import STATUS_WAITING_FOR_SSH, TAG_RAY_NODE_STATUS

from cluster.api import RunPodError
from cluster.host_keys import REFUSED, changed_key_error, has_key, host_key_options


class PodCommandRunner(SSHCommandRunner):
    """Ray's command runner with a port per pod, which changes when the pod restarts, and with host keys checked."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.ssh_options.arg_dict |= host_key_options(self.node_id)

    def run(self, cmd: str | None = None, *args: Any, ssh_options_override_ssh_key: str = "", **options: Any) -> Any:
        """Run a command without the key override of the first commands, whose options lack port and host key."""
        return super().run(cmd, *args, **options)

    def remote_shell_command_str(self) -> str:
        own = "".join(f" -o {name}={value}" for name, value in host_key_options(self.node_id).items())
        return super().remote_shell_command_str().replace("ssh -o", f"ssh -p {self._port()}{own} -o", 1)

    def _run_helper(self, final_cmd: list[str], *args: Any, **options: Any) -> Any:
        """Run a command of ssh or rsync. Raise RunPodError if the host key is the reason why it fails.

        Ray prints the error and tries again for some minutes, so the remedy can be applied while `ray up` runs.
        """
        try:
            return super()._run_helper(final_cmd, *args, **options)
        except Exception as error:
            if has_key(self.node_id) and self._refuses_host_key():
                raise changed_key_error(self.node_id) from error
            raise

    def _refuses_host_key(self) -> bool:
        """Connect again to read the reason of a failure: Ray leaves what ssh prints to the terminal."""
        own = ["-o", "BatchMode=yes", "-o", "ControlMaster=no", "-o", "ControlPath=none"]
        where = f"{self.ssh_user}@{self._get_ssh_target()}"
        command = ["ssh", *own, *self.ssh_options.to_ssh_options_list(timeout=10), where, "true"]
        return REFUSED in subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL).stderr

    def _ensure_ssh_control_path(self) -> None:
        """Create the folder of shared connections. Raise RunPodError if another user of this machine owns it."""
        super()._ensure_ssh_control_path()
        if self.ssh_control_path is None:
            return
        folder = Path(self.ssh_control_path)
        for one in (folder, folder.parent):
            if one.is_dir() and one.stat().st_uid != os.getuid():
                raise RunPodError(f"{one} belongs to another user: remove it, since it would share your connections")

    def _wait_for_ip(self, deadline: float) -> str:
        ip = super()._wait_for_ip(deadline)
        if ip is None:
            message = f"pod {self.node_id} got no address in time"
            if self.provider.node_tags(self.node_id).get(TAG_RAY_NODE_STATUS) == STATUS_WAITING_FOR_SSH:  # a new pod
                self.provider.terminate_node(self.node_id)
                message += " and was terminated, so that it costs nothing; try again, or use another data center"
            raise RunPodError(message)
        return ip

    def _get_ssh_target(self) -> str:
        target = super()._get_ssh_target()
        self.ssh_options.arg_dict["Port"] = self._port()
        return target

    def _port(self) -> int:
        return self.provider.ssh_port(self.node_id, private=self.use_internal_ip)
