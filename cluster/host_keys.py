"""SSH host keys: each is stored at the first contact, under the id of its pod or machine, and compared from then on.

An address does not identify a pod: RunPod gives the address and port of a pod that is gone to the pod of someone else.
"""

from __future__ import annotations

from pathlib import Path

from cluster.api import RunPodError
from cluster.user_config import config_folder

REFUSED = "Host key verification failed"  # OpenSSH's words


def known_hosts() -> Path:
    """Return the file of host keys, created with mode 0600. Raise RunPodError if ssh could not be given its path."""
    try:
        file = config_folder() / "known_hosts"
        file.touch(mode=0o600)
    except OSError as error:
        raise RunPodError(f"host keys cannot be kept in {error.filename}: {error.strerror}") from error
    if any(letter.isspace() for letter in str(file)):
        raise RunPodError(f"host keys are kept in {file}, and rsync splits paths at spaces: set XDG_CONFIG_HOME")
    return file


def host_key_options(node_id: str) -> dict[str, str]:
    """Return the options of ssh that accept an unknown host key once and refuse a changed one."""
    return {
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": str(known_hosts()),
        "HostKeyAlias": node_id,
        "CheckHostIP": "no",
        "HashKnownHosts": "no",
    }


def has_key(node_id: str) -> bool:
    """Return whether a host key of this node is stored."""
    return any(line.split(" ", 1)[0] == node_id for line in known_hosts().read_text().splitlines())


def changed_key_error(node_id: str) -> RunPodError:
    """Return the error for a node that shows another host key than at the first contact."""
    return RunPodError(
        f"the SSH host key of {node_id} has changed: another machine may have taken its address. If you restarted"
        f" {node_id} yourself: ssh-keygen -f {known_hosts()} -R {node_id}"
    )
