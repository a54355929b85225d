"""What a sweep writes of itself: into a folder that nobody else has, and for whoever reads it elsewhere."""

from __future__ import annotations

import pytest

from sweeps.engine.checks import BadInput
from sweeps.engine.session import create


def test_who_comes_second_is_told_which_name_is_free(tmp_path):
    """Both had found the name free before Ray was up."""
    create(tmp_path / "arc", {"sweep": {"seed": 1}})
    (tmp_path / "arc-2").mkdir()
    with pytest.raises(BadInput, match="begun meanwhile by another sweep; start again with --name arc-3"):
        create(tmp_path / "arc", {"sweep": {"seed": 2}})
    assert "seed: 1" in (tmp_path / "arc/sweep.yaml").read_text()
