"""The notebook of the docs, run by a real kernel: it shows its sweep while it runs, and says what the sweep found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from sweeps.cli.notebook import live
from sweeps.commands.result import Result
from tests.support.driving import environment
from trainables.bad_input import BadInput

ROOT = Path(__file__).parents[2]
SWEEP = 3  # the cell that runs the sweep


class Watched(NotebookClient):
    """Keeps what the cells have shown and then replaced."""

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.__dict__.setdefault("shown", []).append((cell_index, msg["content"]["data"]["text/html"]))
        return super().process_message(msg, cell, cell_index)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Its folder, its notebook with all outputs, and what the cell of the sweep has shown."""
    folder = tmp_path_factory.mktemp("notebook")
    read = nbformat.read(ROOT / "docs/notebook.ipynb", 4)
    client = Watched(read, timeout=500, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment() | {"PYTHONPATH": str(ROOT)})
    return folder, read, client.__dict__["shown"]


def test_the_cell_of_the_sweep_shows_it_while_it_runs_and_at_its_end(done):
    folder, _, shown = done
    result = Result.of(folder / "runs/arena")
    assert len(shown) > 1
    assert {cell for cell, _ in shown} == {SWEEP}
    first, last = shown[0][1], shown[-1][1]
    assert first.count("<tr") < last.count("<tr") or first != last, "it has changed"
    assert last.count("<tr") == 1 + len(result.trials)
    assert "data:image/png;base64," in last


def test_its_tables_and_verdict_are_those_of_the_sweep(done):
    folder, read, _ = done
    result = Result.of(folder / "runs/arena")
    said = json.dumps([cell.get("outputs") for cell in read.cells])
    assert "stderr" not in said, "a newcomer sees no warning"
    assert result.finalists.name[0] in said
    assert all(json.dumps(line)[1:-1] in said for line in result.verdict.sentences)
    pictures = [out for cell in read.cells for out in cell.get("outputs", ()) if "image/png" in out.get("data", {})]
    assert len(pictures) == 2


def test_outside_of_a_notebook_it_says_what_to_call():
    with pytest.raises(BadInput, match=r"this is none; call run\(\)"):
        live(None)
