"""A sweep in a notebook: its best trials and its learning curves in the cell, while it runs."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweeps.cli.main import run
from sweeps.commands.result import Result
from sweeps.commands.which_sweep import ROOT, sweeps_in
from sweeps.persistence.lock import driver
from sweeps.results.tables import TRIALS
from sweeps.spec.chain import Chain
from sweeps.spec.sweep import Sweep
from trainables.bad_input import BadInput

EVERY_S = 2.0  # between two looks at the sweep's folder
TOP = 5  # trials that are shown


def live(sweep: Sweep | Chain, **flags: Any) -> Result:
    """Run a sweep as `run` does, and show its best trials and its learning curves in the notebook's cell meanwhile.

    Raises BadInput, also outside of a notebook.
    """
    try:
        from IPython import get_ipython
        from IPython.display import HTML, display
    except ModuleNotFoundError as error:
        raise BadInput("live()", "shows a sweep in a notebook, and IPython is not installed", "call run()") from error
    if get_ipython() is None:
        raise BadInput("live()", "shows a sweep in a notebook, and this is none", "call run()")
    cell = display(HTML("<p>the sweep starts</p>"), display_id=True)
    root = Path(flags.get("storage_path", ROOT))
    with _watching(root, cell.update):
        result = run(sweep, **flags)
    cell.update(Shown(result.folder))
    return result


class Shown:
    """The best trials of a sweep's folder as it is now, and its learning curves: HTML for a notebook."""

    def __init__(self, folder: Path) -> None:
        from base64 import b64encode

        from sweeps.report.chart_style import picture
        from sweeps.report.headline import headline
        from sweeps.report.plots import plots

        result = Result.of(folder)
        self.html = f"<p><b>{folder}</b>: {headline(result.run)}</p>{_table(result)}"
        for plot in plots(result.run):
            if plot.name == "curves":
                image = b64encode(picture(plot.panels)).decode()
                self.html += f'<img width="640" alt="{plot.title}" src="data:image/png;base64,{image}">'

    def _repr_html_(self) -> str:
        return self.html


def _table(result: Result) -> str:
    out = io.StringIO()
    result.trials.head(TOP).to_html(out, index=False, border=0)  # escapes what configurations hold
    return out.getvalue()


@contextmanager
def _watching(root: Path, show: Callable[[Any], None]) -> Iterator[None]:
    """Show the sweep that this process runs below `root`, whenever it has news, until the block ends."""
    over = threading.Event()

    def watch() -> None:
        seen = None
        while not over.wait(EVERY_S):
            own = _running(root)
            if own is None or (news := (own, (own / TRIALS).stat().st_mtime_ns)) == seen:
                continue
            with contextlib.suppress(BadInput, OSError):  # it is shown when it can be read again
                show(Shown(own))
                seen = news

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _running(root: Path) -> Path | None:
    """Return the folder of the sweep that this process runs, once it has trials."""
    mine = (one for one in sweeps_in(root) if driver(one) == os.getpid())
    return next((one for one in mine if (one / TRIALS).is_file()), None)
