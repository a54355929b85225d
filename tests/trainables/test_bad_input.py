"""The error for input that cannot be used: one line of value, bound and remedy; readers of numbers and files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml

from trainables.bad_input import LONGEST, BadInput, read_number, read_whole, reading


def test_it_says_value_bound_and_remedy_and_survives_a_process() -> None:
    error = BadInput("--rounds 0", "is below 1", "give 1 or more")
    assert str(error) == str(pickle.loads(pickle.dumps(error))) == "--rounds 0 is below 1; give 1 or more"
    assert (error.value, error.bound, error.remedy) == ("--rounds 0", "is below 1", "give 1 or more")
    assert str(BadInput("runs/a", remedy="give another")) == "runs/a; give another"


def test_only_a_value_is_shortened() -> None:
    bound, remedy = "is too long " * 50, "give a shorter one " * 50
    error = BadInput("--name " + "x" * 5000 + "end", bound, remedy)
    assert len(error.value) <= LONGEST
    assert error.value.startswith("--name xx")
    assert error.value.endswith("xend")
    assert str(error).endswith(f"{bound}; {remedy}")
    told = "a whole message " * 50
    assert str(BadInput(told)) == told


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("-0", 0), ("+7", 7), (str(2**63 - 1), 2**63 - 1)])
def test_whole_numbers(text: str, number: int) -> None:
    assert read_whole(text) == number


@pytest.mark.parametrize("text", ["", "1.0", "1_000", "\u0663", str(2**63), "9" * 5000, "0x1", " 1", "1\n", "true"])
def test_what_is_no_whole_number(text: str) -> None:
    with pytest.raises(ValueError, match="is no INT"):
        read_whole(text)


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "\u0663.5", "1_0.5", "", ".", "1e", "0x1p3"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="is no FLOAT"):
        read_number(text)


def test_numbers() -> None:
    assert [read_number(text) for text in ("1", "-.5", "2.", "1e-05", "+3E2")] == [1.0, -0.5, 2.0, 1e-5, 300.0]


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe", b"[" * 10_000, b"", None], ids=lambda one: str(one)[:10])
def test_any_fault_of_a_file_is_one_line_with_its_name(content: bytes | None, tmp_path: Path) -> None:
    load = json.loads if content == b"" else yaml.safe_load
    file = tmp_path / "facts"
    file.write_bytes(content) if content is not None else file.mkdir()
    told = r"facts cannot be read \(.*\); bring it back$"
    with pytest.raises(BadInput, match=told) as error, reading(file, "bring it back"):
        load(file.read_text(encoding="utf-8"))
    assert "\n" not in str(error.value)


def test_an_error_that_says_it_already_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^trial 3 is no trial$"), reading(tmp_path):
        raise BadInput("trial 3", "is no trial")
