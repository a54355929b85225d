"""Checks that values read from a file have the types of a dataclass's fields, as Python itself does not."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from trainables.bad_input import BadInput

CONFIG = ConfigDict(strict=True, arbitrary_types_allowed=True)


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Raise BadInput unless each value has the type of the field of its name, which `kind` must have."""
    adapters = _adapters(kind)
    for name, value in values.items():
        if name in adapters:
            try:
                adapters[name].validate_python(value)
            except ValidationError as error:
                why = error.errors(include_url=False, include_context=False)[0]["msg"]
                raise BadInput(f"{kind.__name__}.{name}", f"is {str(value)[:80]!r}: {why}") from error


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    """Return a checker for each field; none for types that pydantic does not know, and without hints."""
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError, AttributeError):  # of a class that a user's script made in a function
        return {}
    found = {}
    for field in dataclasses.fields(kind):
        try:
            found[field.name] = TypeAdapter(hints[field.name], config=CONFIG)
        except PydanticUserError:  # a model or a dataclass, which brings a config of its own
            continue
    return found
