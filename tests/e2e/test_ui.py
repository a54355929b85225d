"""`espalier ui` beside a sweep that runs: its page gets on by itself, keeps what the user looks at, and steers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.results.run_folder import Run
from sweeps.spec.error_policy import Status
from tests.support.chromium import browsing
from tests.support.driving import SCRIPT, environment, kill, wait_for
from tests.support.mlflow_pages import needs_chromium
from tests.support.ports import answers, free_port

FLAGS = ["--num-samples", "6", "--rounds", "40", "--grace-period", "40", "--set", "seconds=1", "planted=nothing"]
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture(scope="module")
def going_on(tmp_path_factory):
    """A folder with a sweep of slow trials, two of which have ended a round."""
    folder = tmp_path_factory.mktemp("ui")
    words = [sys.executable, str(SCRIPT), *FLAGS, "--no-report"]
    driver = subprocess.Popen(words, cwd=folder, env=environment(), start_new_session=True, **QUIET)
    run = folder / "runs/toy"
    try:
        wait_for(lambda: (run / "trials.parquet").is_file() and len(Run.read(run).records) >= 2)
        yield folder
    finally:
        kill(driver)


@pytest.fixture(scope="module")
def address(going_on):
    """The address that a real `espalier ui` prints, beside one whose port is taken."""
    port, other = free_port(), free_port()
    words = [sys.executable, "-c", "from sweeps.cli.main import console; console()", "ui"]
    words += ["--port", f"{port}", "--mlflow-port", f"{other}", "--trust", "tests.support.toys"]
    variables = environment() | {"PYTHONPATH": str(Path(__file__).parents[2])}
    page = subprocess.Popen(words, cwd=going_on, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        said = [page.stdout.readline() for _ in range(3)]
        assert said[1] == f"MLflow: http://127.0.0.1:{other}\n"
        yield re.fullmatch(rf"sweeps: (http://127\.0\.0\.1:{port}/\S+/) \(.*\)\n", said[0])[1]
        page.terminate()
        assert page.wait(60) == Status.TERMINATED
        wait_for(lambda: not answers(port) and not answers(other))
    finally:
        page.kill()
        page.wait()


@needs_chromium
def test_the_page_of_a_running_sweep_gets_on_and_stops_and_clones_its_trials(going_on, address, tmp_path):
    run = going_on / "runs/toy"
    rounds = "Number(row(1).children[5].innerText)"
    with browsing(tmp_path) as page:
        page.look(1400, height=500)
        page.open(address)
        assert page.value("document.querySelector('article').innerText").startswith("toy\n\nrunning, ")
        page.open(page.value("document.querySelector('article a').href"))
        page.wait("document.querySelector('#curves svg')")  # after two rounds
        page.click("row(1)")
        page.value("getSelection().selectAllChildren(document.querySelector('#made dd'))")
        marked = page.value("getSelection().toString()")
        page.value("document.getElementById('curves').scrollIntoView()")
        top = page.value("document.getElementById('curves').getBoundingClientRect().top")
        before, lines = page.value(rounds), page.value("document.querySelector('#curves svg').outerHTML")
        page.wait(f"{rounds} >= {before} + 3")

        assert page.value("document.querySelector('#curves svg').outerHTML") != lines
        assert abs(page.value("document.getElementById('curves').getBoundingClientRect().top") - top) <= 1
        assert page.value("getSelection().toString()") == marked != ""
        assert page.value("pickedRows()") == [["leaderboard", "1"]]
        assert "curves" in page.value("picked()")
        assert page.value("panelTitle()") == "Trial 1"

        page.value("getSelection().removeAllRanges()")
        page.click("document.querySelector('#selected [name=clone]')")
        page.value("document.querySelector('[name=quality]').value = '0.25'")
        page.click("document.querySelector('#selected form button')")
        page.wait(
            "document.querySelector('output').innerText.includes('the next trial goes on from trial 1 after round')"
        )

        page.click("document.querySelector('#selected [name=stop]')")
        page.wait("document.querySelector('output').innerText.includes('trial 1 stops after the round it is in')")
        page.wait("row(1).innerText.includes('stopped by hand')")
        assert Run.read(run).trial("1").status == "pruned"
        page.wait("document.querySelector('#selected [name=stop]').hidden")
        page.wait("row(2)")
        assert Run.read(run).trial("2").params.fields["quality"] == 0.25, "the clone takes the next place"

        own = address.rsplit("/", 2)[0]
        assert all(one.startswith((own, "data:")) for one in page.requests), "no other server is asked"
        assert page.errors == []
