"""The names of axes in a space that joins several learners: `lora.r` is the axis `r` of the learner `lora`."""

from __future__ import annotations


def with_prefix(learner: str, axis: str) -> str:
    return f"{learner}.{axis}"


def without_prefix(learner: str, name: str) -> str:
    """Return the name of the learner's own axis; other names are returned unchanged."""
    return name.removeprefix(f"{learner}.")
