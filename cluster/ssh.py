"""SSH from Ray to a pod: through a mapped port from outside, at the private address from another pod."""

from __future__ import annotations

from typing import Any

# This class and the methods that we override are private: Ray has one SSH port for all nodes.
# tests/e2e/test_private_names.py checks them.
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler.tags import STATUS_WAITING_FOR_SSH, TAG_RAY_NODE_STATUS

from cluster.api import RunPodError


class PodCommandRunner(SSHCommandRunner):
    """Ray's command runner with a port per pod, which changes when the pod restarts."""

    def run(self, cmd: str | None = None, *args: Any, ssh_options_override_ssh_key: str = "", **options: Any) -> Any:
        """Run a command without the key override of the first commands, whose options lack the port."""
        return super().run(cmd, *args, **options)

    def remote_shell_command_str(self) -> str:
        return super().remote_shell_command_str().replace("ssh -o", f"ssh -p {self._port()} -o", 1)

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
