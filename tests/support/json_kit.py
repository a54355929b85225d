"""What commands print with --json, checked against the schema that the package has."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema

SCHEMA = json.loads(files("sweeps.results").joinpath("output.schema.json").read_text(encoding="utf-8"))


def checked(printed: str, command: str) -> dict[str, Any]:
    """Return the one line of JSON that a command printed, if the schema knows it."""
    (line,) = printed.splitlines()
    facts = json.loads(line, parse_constant=_refuse)
    assert facts["command"] == command
    jsonschema.Draft202012Validator(SCHEMA).validate(facts)
    return facts


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")
