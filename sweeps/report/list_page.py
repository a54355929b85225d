"""The list of sweeps that `espalier ui` serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeps.report.chart_style import DARK, LIGHT
from sweeps.report.page import Live, own_script, pages, policy


@dataclass(frozen=True)
class ListedSweep:
    """A row of the list. `trials` is how many there are of how many, and `told` is the headline of its page."""

    name: str
    address: str
    state: str
    trials: str
    told: str


def list_page(sweeps: Sequence[ListedSweep], live: Live) -> str:
    """Return the page with the list."""
    script = own_script()
    template = pages().get_template("list.html.jinja")
    return template.render(
        sweeps=sweeps, live=live, script=script, policy=policy([script], served=True), light=LIGHT, dark=DARK
    )
