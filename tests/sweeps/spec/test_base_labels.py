"""Labels of bases: short, without dots, and unique."""

from __future__ import annotations

import pytest

from sweeps.spec.base_labels import base_labels, plain_base


@pytest.mark.parametrize(
    ("bases", "labels"),
    [
        (["builtin:tiny", "builtin:smollm2"], ["tiny", "smollm2"]),
        (["Qwen/Qwen2.5-0.5B-Instruct", "/models/Mine.gguf:sha256=ab12"], ["qwen2_5-0_5b-instruct", "mine"]),
        (["builtin:tiny", "builtin:tiny:nf4"], ["tiny", "tiny-nf4"]),
        (["a/b:gguf=b.Q4.gguf", "a/b:gguf=b.Q8.gguf"], ["b-b_q4", "b-b_q8"]),
        (["/one/merged", "/two/merged"], ["one-merged", "two-merged"]),
        (["/a/one/merged", "/b/one/merged"], ["one-merged", "one-merged-2"]),
        (["/a/x", "/b/x", "/c/b-x"], ["a-x", "b-x", "b-x-2"]),
        (["/models/模型"], ["base"]),
    ],
)
def test_a_base_is_called_by_the_least_that_tells_it_apart(bases: list[str], labels: list[str]) -> None:
    assert list(base_labels(bases).values()) == labels


def test_a_base_is_the_same_in_whatever_dtype_a_sweep_chose() -> None:
    assert plain_base("builtin:smollm2:sha256=ab:bfloat16") == plain_base("builtin:smollm2") == "builtin:smollm2"
    assert plain_base("a/b:nf4:float32") == "a/b:nf4"
