"""Pods on one machine: network, PID and mount namespaces that run sshd, with a public and a private address each.

As root, with openssh-server, rsync and iproute2. The public address 10.99.0.N answers on a mapped port only, the
private 10.88.0.N on port 22, as RunPod's do; `<pod>.runpod.internal` is the private one, among pods alone. Every pod
has its own /root, /tmp, /run, /dev/shm and /usr/local/bin, and /workspace in common, like a network volume.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.api_server import POD_KEY, Pod

ROOT = Path(__file__).resolve().parents[2]
BRIDGE, PUBLIC, PRIVATE = "espalier0", "10.99.0", "10.88.0"
START = """
hostname {name}
mount -t tmpfs tmpfs /run && mkdir -p /run/sshd
mount -t tmpfs -o size=1g tmpfs /dev/shm
mount --bind {folder}/hosts /etc/hosts
mkdir -p /workspace && mount --bind {shared} /workspace
mount -t tmpfs tmpfs /usr/local/bin
{exposed}
mount --rbind {own}/root /root
mount --rbind {own}/tmp /tmp
/usr/sbin/sshd -D -e -o UsePAM=no -o StrictModes=no -o PermitRootLogin=yes -o PidFile=none \
  -o ListenAddress={private}:22 -o ListenAddress={public}:{port} > /tmp/sshd.log 2>&1 &
sleep infinity &
wait  # bash takes in what its processes leave; sleep would not
"""


def why_not() -> str | None:
    """Why there can be no pods here, in words; None where there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    for tool, package in (("/usr/sbin/sshd", "openssh-server"), ("rsync", "rsync"), ("ip", "iproute2")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: install Debian's {package}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True, text=True)
    return f"namespaces are not permitted: {tried.stderr.strip()}" if tried.returncode else None


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stderr}"


class Pods:
    """The machine room. `close` leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "volume"
        self.shared.mkdir()
        (folder / "hosts").write_text("127.0.0.1 localhost\n")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._clear()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        for network in (PUBLIC, PRIVATE):
            run("ip", "address", "add", f"{network}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")

    def close(self) -> None:
        for name in list(self.processes):
            self._end(name)
        run("ip", "link", "delete", BRIDGE)

    def start(self, pod: Pod) -> None:
        """A pod of the API server, from now on running."""
        name, number = pod["id"], int(pod["id"][3:]) + 1
        public, private, port = f"{PUBLIC}.{number}", f"{PRIVATE}.{number}", 40000 + number
        own = self.folder / name
        for part in ("tmp", "root/.ssh"):
            (own / part).mkdir(parents=True)
        (own / "tmp").chmod(0o1777)
        (own / "root/.ssh/authorized_keys").write_text(pod["env"]["PUBLIC_KEY"] + "\n")
        (own / "root/.bashrc").write_text(  # as RunPod's: a path, and a key that may not rent pods
            f"export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin RUNPOD_API_KEY={POD_KEY}\n"
        )
        with (self.folder / "hosts").open("a") as hosts:
            hosts.write(f"{private} {name}.runpod.internal\n")
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", f"v-{name}", "master", BRIDGE, "up")
        for address in (public, private):
            run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", name, "link", "set", device, "up")
        run("ip", "-n", name, "route", "add", "default", "via", f"{PUBLIC}.1")
        script = START.format(
            name=name, folder=self.folder, shared=self.shared, own=own, exposed=self._exposed(own),
            public=public, private=private, port=port,
        )  # fmt: skip
        inside = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self.processes[name] = subprocess.Popen(
            ["ip", "netns", "exec", name, *inside, "bash", "-ec", script],
            env={"PATH": os.environ["PATH"], **pod["env"]},
            stdin=subprocess.DEVNULL,
            stdout=(own / "start.log").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        pod["ssh"] = {"direct": {"host": public, "port": port, "username": "root"}}
        pod["globalNetworking"]["ip"] = private
        pod["status"] = "RUNNING"

    def end(self, pod: Pod) -> None:
        self._end(pod["id"])

    def titles(self, name: str) -> str:
        """The command lines of a pod's processes."""
        said = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout
        files = [Path(f"/proc/{pid}/cmdline") for pid in said.split()]
        return "\n".join(file.read_text().replace("\0", " ") for file in files if file.exists())

    def _end(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is None:
            return
        os.killpg(process.pid, signal.SIGKILL)  # `unshare --kill-child` takes the pod's processes along
        process.wait()
        run("ip", "netns", "delete", name)
        subprocess.run(["ip", "link", "delete", f"v-{name}"], capture_output=True)

    def _clear(self) -> None:
        """Away with what a test that was killed has left."""
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        for name in (line.split()[0] for line in listed.splitlines() if line.startswith("pod")):
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
            subprocess.run(["kill", "-KILL", *pids], capture_output=True)
            run("ip", "netns", "delete", name)
            subprocess.run(["ip", "link", "delete", f"v-{name}"], capture_output=True)
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)

    def _exposed(self, own: Path) -> str:
        """The interpreter, the environment and the checkout, where they lie in a folder that a pod has for itself."""
        lines = []
        for path in dict.fromkeys((sys.base_prefix, sys.prefix, str(ROOT))):
            for hidden in ("/tmp", "/root"):
                if path.startswith(f"{hidden}/"):
                    inside = own / path.lstrip("/")
                    inside.mkdir(parents=True, exist_ok=True)
                    lines.append(f"mount --bind {path} {inside}")
        return "\n".join(lines)
