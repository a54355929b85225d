"""Parse command lines with tyro: help says `none` for None, and an error is one line of BadInput."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from trainables.bad_input import BadInput, read_number, read_whole, shortened

NONE = "none"
EXPLAINED = 8  # columns by which tyro indents explanations of the options that it names

registry = ConstructorRegistry()


def parse_with(parser: Callable[..., Any], *what: Any, **options: Any) -> Any:
    """Call `parser`, a function of tyro, and return its result. Raises BadInput; `--help` exits."""
    said = io.StringIO()
    named = (tyro.conf.PositionalMetavarFromFieldName,)
    try:
        with contextlib.redirect_stderr(said):
            return parser(*what, registry=registry, config=named, **options)
    except SystemExit as end:
        if not end.code:  # --help
            raise
        raise BadInput(_unboxed(said.getvalue())) from end


@registry.primitive_rule
def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read `int | None` as an int, or as None for the word `none`."""
    kinds = get_args(info.type) if info.type_origin in (Union, UnionType) else ()
    if NoneType not in kinds:
        return None
    rest: Any = Union[tuple(kind for kind in kinds if kind is not NoneType)]  # noqa: UP007 - kinds are known only here
    spec: Any = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(rest, info.markers))

    def read(words: list[str]) -> Any:
        if words == [NONE]:
            return None
        try:
            return spec.instance_from_str(words)
        except ValueError as error:
            raise ValueError(f"{' '.join(words)!r} is no {spec.metavar}") from error

    return dataclasses.replace(
        spec,
        instance_from_str=read,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: [NONE] if value is None else spec.str_from_instance(value),
    )


@registry.primitive_rule
def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read a float that is finite: `nan` passes every comparison with a bound."""
    return _one_word("FLOAT", read_number, (int, float)) if info.type is float else None


@registry.primitive_rule
def whole(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read an int that fits into 64 bits, as files and libraries take no larger one."""
    return _one_word("INT", read_whole, (int,)) if info.type is int else None


@registry.primitive_rule
def path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read a path. An empty one, as of a variable that is not set, would be the current folder."""
    return _one_word("PATH", _read_path, (Path,)) if info.type is Path else None


def _one_word(metavar: str, read: Callable[[str], Any], kinds: tuple[type, ...]) -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: isinstance(value, kinds) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _read_path(word: str) -> Path:
    """Return a path that may be there or not. Raises ValueError for one that never can be."""
    try:
        os.stat(word)
    except ValueError as error:  # a NUL character
        raise ValueError(f"{word!r} is no PATH ({error})") from error
    except OSError as error:
        if not word or error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise ValueError(f"{shortened(word)!r} is no PATH ({error.strerror})") from error
    return Path(word)


@registry.primitive_rule
def several(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read `tuple[int, ...]`; the help shows `none` for an empty one."""
    kind, *more = get_args(info.type) if info.type_origin is tuple else (None,)
    if more != [...]:
        return None
    spec: Any = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(list[kind], info.markers))  # type: ignore
    return dataclasses.replace(
        spec,
        instance_from_str=lambda words: tuple(spec.instance_from_str(words)),
        is_instance=lambda value: isinstance(value, tuple) and spec.is_instance([*value]),
        str_from_instance=lambda value: spec.str_from_instance([*value]) or [NONE],
    )


def _unboxed(text: str) -> str:
    """Return tyro's error message in one line, without its frame and colours.

    tyro draws the frame with lines or, on plain terminals, with blanks.
    """
    parts: list[list[str]] = [[]]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\u2502", " ")
    for line in (line[2:].rstrip() for line in plain.splitlines() if line.startswith("  ")):
        if not line.strip("\u2500- "):
            parts.append([])
        elif not line.startswith(" " * EXPLAINED):
            parts[-1].append(line.strip())
    told = [re.sub(r"^For full helptext, (see|run):?", "see", " ".join(part)).rstrip(".") for part in parts]
    return "; ".join(one for one in told if one and not one.startswith("Argument helptext"))
