"""The names of axes in a space that joins several pairs: `lora.r` is the axis `r` of the learner `lora`, and
`lora@tiny.r` that of `lora` on the base `tiny`."""

from __future__ import annotations


def with_prefix(pair: str, axis: str) -> str:
    return f"{pair}.{axis}"


def without_prefix(pair: str, name: str) -> str:
    """Return the name of the pair's own axis; other names are returned unchanged."""
    return name.removeprefix(f"{pair}.")
