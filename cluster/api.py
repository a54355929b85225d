"""RunPod's public API: pods, prices, and what to do about a call that failed.

REST version 2 (https://docs.runpod.io/api-reference-v2); GraphQL for spot pods, which REST does not rent
(https://graphql-spec.runpod.io, `podRentInterruptable`). Prices are dollars an hour.
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
# On a head, where RUNPOD_API_KEY is the pod's own, which may not rent others. In lower case, so that the start scripts
# of pods, which copy variables in capitals into a file for SSH shells, leave it where it is.
HEADS_KEY = "espalier_runpod_api_key"
ALIVE, DEAD = ("PROVISIONING", "STARTING", "RUNNING"), ("EXITED", "ERROR")  # of a pod; TERMINATED ones are gone
PATIENCE_S = 180.0  # for one call and its repetitions
TIMEOUT = httpx.Timeout(30, connect=10)  # seconds
SPOT = "mutation($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"
REMEDIES = {
    401: f"the key is not valid: set {USERS_KEY} to one of https://console.runpod.io/user/settings",
    402: "the account has no credit: add some at https://console.runpod.io/user/billing",
    403: "the key may not do this: give it the right to write pods, or use another",
    422: "mend node_config in the cluster's file: its fields are those of POST /v2/pods",
}

Answer = TypeVar("Answer")


class RunPodError(click.ClickException):
    """What failed and what to do about it, as `ray up` shows it."""


class NoCapacity(RunPodError):
    """This GPU is not to be had now; another one may be."""


class Passing(RunPodError):
    """It may work in a moment, and may have worked already: the answer was lost, late, or the API was busy."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def api_key() -> str:
    """The account's key. On a head its first process has it: what shells there call RUNPOD_API_KEY is the pod's own.

    Raises RunPodError for none, and for one that was copied with more than itself, as curly quotes.
    """
    with suppress(OSError):  # no such file, or not ours to read
        for variable in Path("/proc/1/environ").read_bytes().decode(errors="replace").split("\0"):
            if variable.startswith(f"{HEADS_KEY}="):
                return variable.partition("=")[2]
    key = os.environ.get(USERS_KEY, "").strip()
    if not key:
        raise RunPodError(f"no RunPod key: set {USERS_KEY}, which you get at https://console.runpod.io/user/settings")
    if odd := next((one for one in key if not "!" <= one <= "~"), None):
        raise RunPodError(f"{USERS_KEY} holds {odd!r}, which no key does: copy the key alone, without quotes or spaces")
    return key


class Busy(Passing):
    """Too many calls in a minute: a pause is all that is needed."""


class RunPod:
    """The calls that a cluster needs. Safe in threads; never shows the key.

    429, 5xx and lost connections are repeated, with growing pauses, for `patience_s` seconds. Raises RunPodError.
    """

    def __init__(self, key: str, url: str = URL, patience_s: float = PATIENCE_S) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT)
        self._key, self._patience_s = key, patience_s

    def pods(self) -> list[dict[str, Any]]:
        """All pods of the account, whoever rented them, the oldest first."""
        page = self._read("/v2/pods")
        found = page["pods"]
        while cursor := page.get("pagination", {}).get("nextCursor"):
            page = self._read("/v2/pods", cursor=cursor)
            found += page["pods"]
        return sorted(found, key=lambda pod: (pod.get("createdAt", ""), pod["id"]))

    def named(self, name: str) -> list[dict[str, Any]]:
        """Those alive of a name, the oldest first."""
        return [pod for pod in self.pods() if pod["name"] == name and pod["status"] in ALIVE]

    def create(self, body: Mapping[str, Any], bid: float | None = None) -> dict[str, Any]:
        """One pod of the name in `body`, which must be its own, however often the answer is lost; `bid` for a spot pod.

        A call whose answer was lost may have rented a pod: before a repetition the account's pods are searched for the
        name, and after one all but the oldest are given back. Raises NoCapacity where this GPU is not to be had.
        """
        calls = 0

        def rent(attempt: int) -> dict[str, Any]:
            nonlocal calls
            if attempt > 1 and (known := self.named(body["name"])):
                return known[0]
            calls += 1
            return self._rent(body, bid)

        pod = self._repeated(rent)
        if calls > 1:
            first, *others = self.named(body["name"]) or [pod]
            for other in others:
                self.terminate(other["id"])
            return first
        return pod

    def terminate(self, pod_id: str) -> None:
        """Give a pod back; one that is gone already is no error."""
        self._repeated(lambda _: self._call("DELETE", f"/v2/pods/{pod_id}", gone_is_fine=True))

    def prices(self, cloud: str, count: int = 1) -> dict[str, float]:
        """GPU id -> dollars an hour of one GPU, in pods of `count` of them; only what this cloud has."""
        listed = self._read("/v2/catalog/gpus", product="POD", cloud=cloud, count=str(count))["gpus"]
        where = cloud.lower()
        return {gpu["id"]: float(gpu["price"][where]) for gpu in listed if gpu.get(where) and gpu["price"].get(where)}

    def _read(self, path: str, **query: str) -> Any:
        return self._repeated(lambda _: self._call("GET", path, params=query))

    def _rent(self, body: Mapping[str, Any], bid: float | None) -> dict[str, Any]:
        if bid is None:
            return self._call("POST", "/v2/pods", json=body)
        answer = self._call("POST", "/graphql", json={"query": SPOT, "variables": {"input": spot_input(body, bid)}})
        if errors := answer.get("errors"):
            raise NoCapacity("; ".join(error["message"] for error in errors))
        return self._call("GET", f"/v2/pods/{answer['data']['podRentInterruptable']['id']}")

    def _repeated(self, call: Callable[[int], Answer]) -> Answer:
        backoff = wait_random_exponential(multiplier=0.5, max=20)

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return max(error.wait_s if isinstance(error, Passing) else 0.0, backoff(state))

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if state.attempt_number == 1 and isinstance(error, Passing) and not isinstance(error, Busy):
                click.echo(f"{error.message}; trying for {self._patience_s:.0f} s", err=True)

        for attempt in Retrying(
            retry=retry_if_exception_type(Passing),
            stop=stop_after_delay(self._patience_s),
            wait=pause,
            before_sleep=tell,
            reraise=True,
        ):
            with attempt:
                return call(attempt.retry_state.attempt_number)
        raise AssertionError("tenacity raises what the last attempt raised")

    def _call(self, method: str, path: str, gone_is_fine: bool = False, **how: Any) -> Any:
        try:
            answer = self._http.request(method, path, **how)
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:  # would be the same for ever
            raise RunPodError(
                f"{self._http.base_url} cannot be asked ({type(error).__name__}): mend api_url, or {USERS_KEY}"
            ) from None  # it may show the key
        except httpx.HTTPError as error:
            raise Passing(
                f"no answer to {method} {path} ({type(error).__name__}); is {self._http.base_url} within reach?"
            ) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        if answer.status_code == 404 and gone_is_fine:
            return None
        said = f"RunPod answered {answer.status_code} to {method} {path}: {_message(answer)}".replace(self._key, "***")
        if answer.status_code == 429 or answer.status_code >= 500:
            kind = Busy if answer.status_code == 429 else Passing
            raise kind(said, _seconds(answer.headers.get("Retry-After", "")))
        if answer.status_code == 400:
            raise NoCapacity(said)
        raise RunPodError(f"{said}\n{REMEDIES[answer.status_code]}" if answer.status_code in REMEDIES else said)


def spot_input(body: Mapping[str, Any], bid: float) -> dict[str, Any]:
    """The body of POST /v2/pods in GraphQL's words, with a bid in dollars an hour for each GPU."""
    networks = body.get("mounts", {}).get("network", [])
    kept = body.get("mounts", {}).get("persistent", {})
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
        "volumeInGb": kept.get("size", 0),
        "networkVolumeId": networks[0]["volumeId"] if networks else None,
        "volumeMountPath": next((one["path"] for one in [*networks, kept] if "path" in one), None),
        "ports": ",".join(body.get("ports", [])),
        "env": [{"key": name, "value": value} for name, value in body.get("env", {}).items()],
        "dockerArgs": body.get("args"),
        "startSsh": True,
        "supportPublicIp": True,
    }
    return {name: value for name, value in given.items() if value is not None}


def _message(answer: httpx.Response) -> str:
    try:
        said = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(next((said[name] for name in ("detail", "message", "error") if said.get(name)), said))[:300]


def _seconds(header: str) -> float:
    return float(header) if header.replace(".", "", 1).isdigit() else 0.0
