"""How Ray reaches a pod: SSH at a mapped port from outside, at the private address from another pod."""

from __future__ import annotations

from typing import Any

# Private, as are the methods that are replaced: Ray has one SSH port for all nodes. tests/e2e/test_private_names.py.
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler.tags import STATUS_WAITING_FOR_SSH, TAG_RAY_NODE_STATUS

from cluster.api import RunPodError


class PodCommandRunner(SSHCommandRunner):
    """Ray's own, which knows one port for all: here each pod has its port, and it changes when the pod restarts."""

    def run(self, cmd: str | None = None, *args: Any, ssh_options_override_ssh_key: str = "", **how: Any) -> Any:
        """Without Ray's other key for the first commands: it is the same key, with options that know no port."""
        return super().run(cmd, *args, **how)

    def remote_shell_command_str(self) -> str:
        return super().remote_shell_command_str().replace("ssh -o", f"ssh -p {self._port()} -o", 1)

    def _wait_for_ip(self, deadline: float) -> str:
        ip = super()._wait_for_ip(deadline)
        if ip is None:
            said = f"pod {self.node_id} got no address in time"
            if self.provider.node_tags(self.node_id).get(TAG_RAY_NODE_STATUS) == STATUS_WAITING_FOR_SSH:  # it is new
                self.provider.terminate_node(self.node_id)
                said += " and was given back, so that it costs nothing; try again, or another data center"
            raise RunPodError(said)
        return ip

    def _get_ssh_target(self) -> str:
        target = super()._get_ssh_target()
        self.ssh_options.arg_dict["Port"] = self._port()
        return target

    def _port(self) -> int:
        return self.provider.ssh_port(self.node_id, private=self.use_internal_ip)
