"""Print this pod's address in RunPod's private network, at which the other nodes reach it.

A pod has several addresses, and Ray would take the first. Ray passes the pod's id in RAY_CLOUD_INSTANCE_ID to the
commands that start it. Standard library only: `python3 cluster/address.py`.
"""

import os
import socket
import sys

DOMAIN = "runpod.internal"


def private_address(pod_id: str) -> str:
    """Return the pod's private address. Raise OSError if the private network does not know the pod."""
    return socket.gethostbyname(f"{pod_id}.{DOMAIN}")


if __name__ == "__main__":
    try:
        print(private_address(os.environ["RAY_CLOUD_INSTANCE_ID"]))
    except (KeyError, OSError) as error:
        sys.exit(f"no private address ({error!r}): set globalNetworking: true in node_config, with NVIDIA GPUs")
