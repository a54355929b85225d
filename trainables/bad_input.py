"""The error for what a person gave and that cannot be used: a flag, a file, a folder, a variable of the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LONGEST = 200  # characters of a value in a message
WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class BadInput(ValueError):
    """What a person gave cannot be used. As text it is one line, `value bound; remedy`, such as

        --rounds 0 is below 1; give a whole number of at least 1

    `value`: what was given, and where; `bound`: what is wrong with it, or what it must be; `remedy`: what to do. With a
    bound or a remedy beside it a long value is shortened in its middle. An error that already says all of it in one
    line is given as the value alone.
    """

    def __init__(self, value: object, bound: str = "", remedy: str = "") -> None:
        super().__init__(value, bound, remedy)  # as they are: an exception that is pickled is made again of them
        self.value = shortened(str(value)) if bound or remedy else str(value)
        self.bound, self.remedy = bound, remedy

    def __str__(self) -> str:
        return "; ".join(filter(None, [" ".join(filter(None, [self.value, self.bound])), self.remedy]))


@contextmanager
def reading(file: Path | str, remedy: str = "give a file that is whole") -> Iterator[None]:
    """Raise BadInput, which names the file, for all that goes wrong while its content is read.

    Any kind of error may come out of libraries that get bytes which they did not write.
    """
    try:
        yield
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{file}", f"cannot be read ({error.strerror or one_line(error)})", remedy) from error
    except Exception as error:
        reason = shortened(one_line(error))
        raise BadInput(f"{file}", f"cannot be read ({type(error).__name__}: {reason})", remedy) from error


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return the text with its middle left out if it has more than `longest` characters."""
    half = (longest - 5) // 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def read_whole(text: str) -> int:
    """Return the whole number that a text is. Raises ValueError for other digits than 0 to 9, and above 64 bits."""
    if WHOLE.fullmatch(text) and -(2**63) <= (value := int(text)) < 2**63:
        return value
    raise ValueError(f"{shortened(text)!r} is no INT")


def read_number(text: str) -> float:
    """Return the finite number that a text is. Raises ValueError for `nan`, `inf`, and other digits than 0 to 9."""
    if NUMBER.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    raise ValueError(f"{shortened(text)!r} is no FLOAT")


def check_least(options: object, bounds: Mapping[str, float]) -> None:
    """Raise BadInput for a field of a command's flags that is below its bound."""
    for name, least in bounds.items():
        if (value := getattr(options, name)) < least:
            raise BadInput(f"--{name.replace('_', '-')} {value}:", f"give {least:g} or more")


def one_line(fault: BaseException) -> str:
    """Return an error's message without its line breaks, or its class if it has none."""
    return " ".join(str(fault).split()) or type(fault).__name__
