"""What a failed request to a chat endpoint means, and what to do about it: one line, which never shows the key."""

from __future__ import annotations

import os
from collections.abc import Callable

from sweeps.spec.sweep import BadInput

GO_ON = "what was answered is kept, and the same command goes on from there"


class EndpointError(BadInput):
    """What failed and what to do about it, in one line, without the key."""


class OverBudget(EndpointError):
    """One answer more could pass the bound on the cost."""


def explain(
    error: Exception, url: str, key_variable: str, model: str, models: Callable[[], list[str] | None]
) -> EndpointError:
    """An error of the `openai` package, in words; `models` asks the server what it has."""
    import openai

    status, said = getattr(error, "status_code", None), _message(error)
    if key := os.environ.get(key_variable):
        said = said.replace(key, "***")  # some servers send back what they were sent
    said = " ".join(said.split())[:200]
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__ or error).__name__
        return EndpointError(f"no answer from {url} ({cause}): is a server running there? {GO_ON}")
    if status in (401, 403):
        state = "is refused" if key else "is not set, and a key is wanted"
        return EndpointError(f"{url} answered {status}: {key_variable} {state}; set it to a valid key")
    if status in (400, 404) and (there := models()) is not None and model not in there:
        return EndpointError(f"{url} has no model {model!r}; it has {', '.join(there) or 'none'}")
    if status == 429:
        return EndpointError(f"{url} limits the rate (429: {said}); use fewer workers, or wait: {GO_ON}")
    if status == 404:
        return EndpointError(f"{url} answered 404: {said}; most addresses end in /v1")
    return EndpointError(f"{url} failed ({status or type(error).__name__}: {said}); {GO_ON}")


def _message(error: Exception) -> str:
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and body.get("message") else str(error)
