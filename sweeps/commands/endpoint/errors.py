"""Error messages for failed requests to a chat endpoint: one line with the cause and the remedy, never the key."""

from __future__ import annotations

import os
from collections.abc import Callable

from trainables.bad_input import BadInput

GO_ON = "answers are kept, and the same command continues from there"


class EndpointError(BadInput):
    """A request failed. The message is one line with cause and remedy, without the key."""


class OverBudget(EndpointError):
    """One more answer could exceed the bound on the cost."""


def explain(
    error: Exception, url: str, key_variable: str | None, model: str, models: Callable[[], list[str] | None]
) -> EndpointError:
    """Return an error of the `openai` package in plain words. `models` lists the server's models."""
    import openai

    status, message = getattr(error, "status_code", None), _message(error)
    if key := os.environ.get(key_variable) if key_variable else None:
        message = message.replace(key, "***")  # some servers repeat the request in their error
    message = " ".join(message.split())[:200]
    if isinstance(error, openai.APIConnectionError):
        cause = type(error.__cause__ or error).__name__
        return EndpointError(f"no answer from {url} ({cause}):", f"is a server running there? {GO_ON}")
    if status in (401, 403):
        if key_variable is None:
            return EndpointError(
                url, f"answered {status}: the server requires a key", "name its environment variable by --key-variable"
            )
        state = "is refused" if key else "is not set, and the server requires a key"
        return EndpointError(url, f"answered {status}: {key_variable} {state}", "set it to a valid key")
    if status in (400, 404) and (served := models()) is not None and model not in served:
        return EndpointError(url, f"has no model {model!r}", f"it has {', '.join(served) or 'none'}")
    if status == 429:
        return EndpointError(url, f"limits the rate (429: {message})", f"use fewer workers, or wait: {GO_ON}")
    if status == 404:
        return EndpointError(url, f"answered 404: {message}", "most addresses end in /v1")
    return EndpointError(url, f"failed ({status or type(error).__name__}: {message})", GO_ON)


def _message(error: Exception) -> str:
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and body.get("message") else str(error)
