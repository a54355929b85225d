"""A packed state comes back bit for bit, and bytes that are no state are refused in one line without running code."""

from __future__ import annotations

import io
import json
import pickle
import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from tests.support.planted import Planted
from trainables.states import FORMAT, UnreadableState, check_file, pack, unpack

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.int64, torch.int8, torch.uint8)


def same(one: Any, other: Any) -> bool:
    """Whether two values have the same types and bits."""
    if isinstance(one, torch.Tensor):
        bits = [value.contiguous().flatten().view(torch.uint8) for value in (one, other)] if one.numel() else []
        return one.dtype == other.dtype and one.shape == other.shape and (not bits or torch.equal(*bits))
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return repr(one) == repr(other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_keep_dtype_shape_and_bits(dtype: torch.dtype) -> None:
    bits = torch.randint(0, 2 if dtype == torch.bool else 256, (3, 4, 8), dtype=torch.uint8)  # has NaNs and infinities
    values = bits.view(dtype) if dtype != torch.uint8 else bits
    held = {"whole": values, "turned": values.transpose(0, 2), "part": values[1:, 2], "one": values[0, 0, 0]}
    held |= {"empty": values[:0], "again": values}
    assert same(held, unpack(pack(held)))


def test_plain_values_keep_their_types() -> None:
    held = {
        ("tuple", True): [1, -(2**130), 0.1, float("inf"), float("nan"), -0.0, None, "a\n\u00e9\ud83d"],
        3: {"bytes": bytes(range(256)), "none": b"", "deep": ([{}], (), [])},
        None: True,
    }
    assert same(held, unpack(pack(held)))
    assert type(unpack(pack(OrderedDict(a=1)))) is dict


def test_the_states_of_random_generators_come_back() -> None:
    ours = torch.Generator().manual_seed(5), np.random.default_rng(5), random.Random(5)
    held = ours[0].get_state(), ours[1].bit_generator.state, ours[2].getstate()
    state = pack(held)
    expected = torch.rand(3, generator=ours[0]).tolist(), ours[1].random(3).tolist(), ours[2].random()
    others = torch.Generator(), np.random.default_rng(), random.Random()
    again = unpack(state)
    others[0].set_state(again[0])
    others[1].bit_generator.state = again[1]
    others[2].setstate(again[2])
    assert (torch.rand(3, generator=others[0]).tolist(), others[1].random(3).tolist(), others[2].random()) == expected


def test_a_restored_tensor_shares_no_memory_with_another() -> None:
    values = torch.zeros(4)
    again = unpack(pack([values, values]))
    again[0] += 1
    assert again[1].tolist() == [0, 0, 0, 0]


def test_other_values_are_refused_by_their_place() -> None:
    with pytest.raises(TypeError, match=r"state\['learner'\]\[1\] is a set; a state holds tensors, numbers"):
        pack({"learner": [0, {1}]})


def of_version(version: str) -> bytes:
    return save({"tree": torch.zeros(1, dtype=torch.uint8)}, {FORMAT: version})


def with_tree(text: str) -> bytes:
    return save({"tree": torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)}, {FORMAT: "1"})


def test_bytes_that_are_no_state_are_refused_in_one_line(tmp_path: Path) -> None:
    torch.save({"steps": 1}, buffer := io.BytesIO())
    planted = pickle.dumps(Planted(tmp_path / "planted"))
    other = "is no state that this version can read"
    cases = {b"": other, b"\xff" * 99: other, buffer.getvalue(): other, planted: other, save({}): other}
    cases |= {of_version("2"): "its format is version 2, and this code reads version 1"}
    trees = (" ", "[", "[" * 200_000, "[]", '["tensor", "7"]', '["bytes"]', '["dict", 1]', '["dict", [["list"], 1]]')
    cases |= {with_tree(text): "the state is damaged" for text in (*trees, '["pickle", "x"]')}
    for state, message in cases.items():
        with pytest.raises(UnreadableState, match=message) as caught:
            unpack(state)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 250
    assert not (tmp_path / "planted").exists()


def test_a_state_that_is_cut_off_is_refused() -> None:
    state = pack({"weights": torch.rand(3), "steps": 4})
    for length in range(len(state)):
        with pytest.raises(UnreadableState):
            unpack(state[:length])


def test_the_header_of_a_file_says_whether_it_is_a_state(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    file.write_bytes(pack({"weights": torch.rand(3)}))
    check_file(file)
    for content in (pickle.dumps({}), b"", of_version("2"), json.dumps({}).encode()):
        file.write_bytes(content)
        with pytest.raises(UnreadableState):
            check_file(file)
