"""A server that speaks RunPod's API as far as a cluster needs it: paths, fields, status codes and errors are RunPod's.

What a pod is made of is the caller's affair: `start(pod)` and `end(pod)`. Faults are planted by name.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "rpa_not_a_real_key"
POD_KEY = "rpa_of_this_pod_alone"  # which a pod finds in its environment: it terminates pods and rents none
FIELDS = {
    "name", "image", "templateId", "gpu", "cpu", "cloud", "dataCenterIds", "globalNetworking", "disk", "mounts",
    "ports", "env", "args", "startSsh", "registry",
}  # fmt: skip
PAGE = 2  # pods in one answer
Pod = dict[str, Any]


class Account:
    """Pods, prices and stock of one account. `faults`: path and method -> what the next calls get, in turn."""

    def __init__(self, start: Callable[[Pod], None] | None = None, end: Callable[[Pod], None] | None = None) -> None:
        self.pods: dict[str, Pod] = {}
        self.prices = {"NVIDIA RTX A4000": 0.25, "NVIDIA RTX A5000": 0.30, "NVIDIA A100 80GB PCIe": 1.64}
        self.stock = dict.fromkeys(self.prices, 100)
        self.balance = 10.0
        self.extra_cost = 0.0  # that is billed beside the list's price
        self.faults: list[tuple[str, str, str]] = []  # method, path, fault
        self.calls: Counter[str] = Counter()
        self.bids: list[float] = []
        self.on_start = start or at_once
        self.on_end = end or (lambda pod: None)
        self.lock = threading.RLock()
        self.server = ThreadingHTTPServer(("0.0.0.0", 0), type("Handler", (Handler,), {"account": self}))
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_port

    def close(self) -> None:
        for pod in list(self.pods.values()):
            self.end(pod["id"])
        self.server.shutdown()
        self.server.server_close()

    def alive(self) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod["status"] != "TERMINATED"]

    def fault(self, method: str, path: str) -> str | None:
        with self.lock:
            for planted in self.faults:
                if planted[0] == method and path.startswith(planted[1]):
                    self.faults.remove(planted)
                    return planted[2]
        return None

    def rent(self, body: Pod, bid: float | None = None) -> tuple[int, Pod]:
        gpu = body["gpu"]["id"]
        with self.lock:
            if self.balance <= 0:
                return 402, {"detail": "Your account balance is too low."}
            if self.stock.get(gpu, 0) <= 0:
                return 400, {"detail": "There are no longer any instances available with the requested specifications."}
            self.stock[gpu] -= 1
            number = len(self.pods) + 1
            pod = {
                "id": f"pod{number:03d}", "name": body["name"], "status": "PROVISIONING", "image": body["image"],
                "gpu": body["gpu"], "env": body["env"], "ports": body["ports"], "ssh": None, "bid": bid,
                "cost": (bid or self.prices[gpu]) * body["gpu"].get("count", 1) + self.extra_cost,
                "globalNetworking": {"enabled": body.get("globalNetworking", False), "ip": None},
                "createdAt": f"2026-11-21T10:00:{number:02d}Z",
            }  # fmt: skip
            self.pods[pod["id"]] = pod
        self.on_start(pod)
        return 201, pod

    def end(self, pod_id: str) -> bool:
        with self.lock:
            pod = self.pods.get(pod_id)
            if pod is None or pod["status"] == "TERMINATED":
                return False
            pod["status"] = "TERMINATED"
        self.on_end(pod)
        return True


def at_once(pod: Pod) -> None:
    """A pod that is there as soon as it is asked for."""
    number = int(pod["id"][3:])
    pod["ssh"] = {"direct": {"host": "203.0.113.7", "port": 40000 + number, "username": "root"}}
    pod["globalNetworking"]["ip"] = f"10.88.0.{number}"
    pod["status"] = "RUNNING"


class Handler(BaseHTTPRequestHandler):
    account: Account

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        account, asked = self.account, urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        account.calls[f"{method} {asked.path}"] += 1
        fault = account.fault(method, asked.path)
        if fault == "429":
            return self._send(429, {"detail": "Too many requests."}, {"Retry-After": "0.2"})
        if fault == "409":
            return self._send(409, {"detail": "Pod is locked."})
        if fault == "500":
            return self._send(500, {"detail": "Internal server error."})
        keys = (KEY, POD_KEY) if method == "DELETE" else (KEY,)
        if self.headers.get("Authorization") not in [f"Bearer {key}" for key in keys]:
            return self._send(401, {"detail": "Unauthorized."})
        code, said = self._done(method, asked.path, {k: v[0] for k, v in parse_qs(asked.query).items()}, body)
        if fault == "lost":  # it was done, and nobody hears of it
            self.close_connection = True
            return self.connection.close()
        return self._send(code, said)

    def _done(self, method: str, path: str, query: dict[str, str], body: Pod) -> tuple[int, Any]:
        account = self.account
        if (method, path) == ("POST", "/v2/pods"):
            if unknown := set(body) - FIELDS:
                return 422, {"detail": f"body.{sorted(unknown)[0]}: extra fields not permitted; got {body['env']}"}
            return account.rent(body)
        if (method, path) == ("POST", "/graphql"):
            return self._spot(body["variables"]["input"])
        if (method, path) == ("GET", "/v2/pods"):
            pods = sorted((pod for pod in account.pods.values()), key=lambda pod: pod["id"], reverse=True)
            first = int(query.get("cursor", 0))
            after = str(first + PAGE) if first + PAGE < len(pods) else None
            return 200, {"pods": pods[first : first + PAGE], "pagination": {"nextCursor": after}}
        if (method, path) == ("GET", "/v2/catalog/gpus"):
            return 200, {
                "gpus": [
                    {"id": name, "secure": True, "community": False, "price": {"secure": price, "community": 0.0}}
                    for name, price in account.prices.items()
                ]
            }
        pod_id = path.removeprefix("/v2/pods/")
        if method == "GET" and pod_id in account.pods:
            return 200, account.pods[pod_id]
        if method == "DELETE" and account.end(pod_id):
            return 204, None
        return 404, {"detail": "pod not found"}

    def _spot(self, given: Pod) -> tuple[int, Any]:
        env = {one["key"]: one["value"] for one in given["env"]}
        gpu = {"id": given["gpuTypeId"], "count": given["gpuCount"]}
        body = {"name": given["name"], "image": given["imageName"], "gpu": gpu, "env": env}
        body |= {"ports": given["ports"].split(","), "globalNetworking": given.get("globalNetwork", False)}
        self.account.bids.append(given["bidPerGpu"])
        code, pod = self.account.rent(body, given["bidPerGpu"])
        if code != 201:
            return 200, {"errors": [{"message": pod["detail"]}], "data": {"podRentInterruptable": None}}
        return 200, {"data": {"podRentInterruptable": {"id": pod["id"]}}}

    def _send(self, code: int, said: Any, headers: dict[str, str] | None = None) -> None:
        text = b"" if said is None else json.dumps(said).encode()
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


def wait_until(true: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.5)
