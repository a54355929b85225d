"""A client of RunPod's public API: pods, prices, and error messages with remedies.

It uses REST version 2 (https://docs.runpod.io/api-reference-v2), and GraphQL for spot pods, which REST cannot rent
(https://graphql-spec.runpod.io, `podRentInterruptable`). Prices are dollars per hour.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

URL = "https://api.runpod.io"
USERS_KEY = "RUNPOD_API_KEY"
# On a head, RUNPOD_API_KEY is the pod's own key, which may not rent other pods. This name is in lower case because the
# start scripts of pods copy variables in capitals into a file for SSH shells.
HEADS_KEY = "espalier_runpod_api_key"
ALIVE, DEAD = ("PROVISIONING", "STARTING", "RUNNING"), ("EXITED", "ERROR")  # states of a pod; TERMINATED is neither
RETRY_S = 180.0  # for one call with its retries
TIMEOUT = httpx.Timeout(30, connect=10)  # seconds
SPOT = "mutation($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"
REMEDIES = {
    401: f"the key is not valid: set {USERS_KEY} to one of https://console.runpod.io/user/settings",
    402: "the account has no credit: add some at https://console.runpod.io/user/billing",
    403: "the key may not do this: give it permission to write pods, or use another key",
    422: "correct node_config in the cluster's file: its fields are those of POST /v2/pods",
}

Answer = TypeVar("Answer")


class RunPodError(click.ClickException):
    """A call failed. The message has the cause and the remedy; `ray up` shows it."""


class NoCapacity(RunPodError):
    """This GPU is not available now; another one may be."""


class TransientError(RunPodError):
    """A retry may succeed: the answer was lost or late, or the API was busy. The call may already have taken effect."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class RateLimited(TransientError):
    """Too many calls in a minute."""


def api_key() -> str:
    """Return the account's key. On a head it is in the environment of the first process; RUNPOD_API_KEY is the pod's.

    Raise RunPodError without a key, and for one that was copied with other characters, such as curly quotes.
    """
    with suppress(OSError):  # no such file, or no permission to read it
        for variable in Path("/proc/1/environ").read_bytes().decode(errors="replace").split("\0"):
            if variable.startswith(f"{HEADS_KEY}="):
                return variable.partition("=")[2]
    key = os.environ.get(USERS_KEY, "").strip()
    if not key:
        raise RunPodError(f"no RunPod key: set {USERS_KEY} to a key from https://console.runpod.io/user/settings")
    if odd := next((one for one in key if not "!" <= one <= "~"), None):
        raise RunPodError(
            f"{USERS_KEY} holds {odd!r}, which no key contains: copy the key alone, without quotes or spaces"
        )
    return key


class RunPod:
    """The API calls that a cluster needs. Safe for threads. No error message contains the key.

    Calls are retried after 429, 5xx and lost connections, with exponential backoff, for `retry_s` seconds. Then they
    raise RunPodError.
    """

    def __init__(self, key: str, url: str = URL, retry_s: float = RETRY_S) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT)
        self._key, self._retry_s = key, retry_s

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods of the account, the oldest first."""
        page = self._read("/v2/pods")
        found = page["pods"]
        while cursor := page.get("pagination", {}).get("nextCursor"):
            page = self._read("/v2/pods", cursor=cursor)
            found += page["pods"]
        return sorted(found, key=lambda pod: (pod.get("createdAt", ""), pod["id"]))

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the pods of a name that are alive, the oldest first."""
        return [pod for pod in self.pods() if pod["name"] == name and pod["status"] in ALIVE]

    def create(self, body: Mapping[str, Any], bid: float | None = None) -> dict[str, Any]:
        """Rent one pod and return it. Its name in `body` must be unique. `bid` makes it a spot pod.

        A call whose answer was lost may have rented a pod. So a retry first looks for the name among the account's
        pods, and after a retry all but the oldest are terminated. Raise NoCapacity if this GPU is not available.
        """
        calls = 0

        def rent(attempt: int) -> dict[str, Any]:
            nonlocal calls
            if attempt > 1 and (known := self.named(body["name"])):
                return known[0]
            calls += 1
            return self._rent(body, bid)

        pod = self._retried(rent)
        if calls > 1:
            first, *others = self.named(body["name"]) or [pod]
            for other in others:
                self.terminate(other["id"])
            return first
        return pod

    def terminate(self, pod_id: str) -> None:
        """Terminate a pod. A pod that no longer exists is not an error."""
        self._retried(lambda _: self._call("DELETE", f"/v2/pods/{pod_id}", missing_ok=True))

    def prices(self, cloud: str, count: int = 1) -> dict[str, float]:
        """Return GPU id -> dollars per hour and GPU, in pods with `count` GPUs, for the GPUs that this cloud has."""
        listed = self._read("/v2/catalog/gpus", product="POD", cloud=cloud, count=str(count))["gpus"]
        where = cloud.lower()
        return {gpu["id"]: float(gpu["price"][where]) for gpu in listed if gpu.get(where) and gpu["price"].get(where)}

    def _read(self, path: str, **query: str) -> Any:
        return self._retried(lambda _: self._call("GET", path, params=query))

    def _rent(self, body: Mapping[str, Any], bid: float | None) -> dict[str, Any]:
        if bid is None:
            return self._call("POST", "/v2/pods", json=body)
        answer = self._call("POST", "/graphql", json={"query": SPOT, "variables": {"input": spot_input(body, bid)}})
        if errors := answer.get("errors"):
            raise NoCapacity("; ".join(error["message"] for error in errors))
        return self._call("GET", f"/v2/pods/{answer['data']['podRentInterruptable']['id']}")

    def _retried(self, call: Callable[[int], Answer]) -> Answer:
        backoff = wait_random_exponential(multiplier=0.5, max=20)

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(error.wait_s if isinstance(error, TransientError) else 0.0, backoff(state))

        def warn(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if state.attempt_number == 1 and isinstance(error, TransientError) and not isinstance(error, RateLimited):
                click.echo(f"{error.message}; retrying for {self._retry_s:.0f} s", err=True)

        for attempt in Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_delay(self._retry_s),
            wait=pause,
            before_sleep=warn,
            reraise=True,
        ):
            with attempt:
                return call(attempt.retry_state.attempt_number)
        raise AssertionError("tenacity raises what the last attempt raised")

    def _call(self, method: str, path: str, missing_ok: bool = False, **options: Any) -> Any:
        try:
            answer = self._http.request(method, path, **options)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:  # a retry would fail in the same way
            raise RunPodError(
                f"{self._http.base_url} cannot be called ({type(error).__name__}): correct api_url, or {USERS_KEY}"
            ) from None  # the cause may contain the key
        except httpx.HTTPError as error:
            raise TransientError(
                f"no answer to {method} {path} ({type(error).__name__}); is {self._http.base_url} reachable?"
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        if answer.status_code == 404 and missing_ok:
            return None
        message = f"RunPod answered {answer.status_code} to {method} {path}: {_message(answer)}".replace(
            self._key, "***"
        )
        if answer.status_code == 429 or answer.status_code >= 500:
            kind = RateLimited if answer.status_code == 429 else TransientError
            raise kind(message, _retry_after(answer.headers.get("Retry-After", "")))
        if answer.status_code == 400:
            raise NoCapacity(message)
        raise RunPodError(f"{message}\n{REMEDIES[answer.status_code]}" if answer.status_code in REMEDIES else message)


def spot_input(body: Mapping[str, Any], bid: float) -> dict[str, Any]:
    """Translate the body of POST /v2/pods to GraphQL. `bid` is in dollars per hour and GPU."""
    networks = body.get("mounts", {}).get("network", [])
    persistent = body.get("mounts", {}).get("persistent", {})
    given = {
        "bidPerGpu": bid,
        "name": body["name"],
        "imageName": body.get("image"),
        "templateId": body.get("templateId"),
        "gpuTypeId": body["gpu"]["id"],
        "gpuCount": body["gpu"].get("count", 1),
        "cloudType": body.get("cloud", "SECURE"),
        "dataCenterId": next(iter(body.get("dataCenterIds", [])), None),
        "globalNetwork": body.get("globalNetworking"),
        "containerDiskInGb": body.get("disk"),
        "volumeInGb": persistent.get("size", 0),
        "networkVolumeId": networks[0]["volumeId"] if networks else None,
        "volumeMountPath": next((one["path"] for one in [*networks, persistent] if "path" in one), None),
        "ports": ",".join(body.get("ports", [])),
        "env": [{"key": name, "value": value} for name, value in body.get("env", {}).items()],
        "dockerArgs": body.get("args"),
        "startSsh": True,
        "supportPublicIp": True,
    }
    return {name: value for name, value in given.items() if value is not None}


def _message(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(next((body[name] for name in ("detail", "message", "error") if body.get(name)), body))[:300]


def _retry_after(header: str) -> float:
    return float(header) if header.replace(".", "", 1).isdigit() else 0.0
