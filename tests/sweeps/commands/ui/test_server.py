"""The server of `espalier ui`, asked over HTTP: who gets an answer, what changes something, and what is there."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import pytest

from sweeps.commands.ui.server import LONGEST_BODY, serving_pages
from sweeps.commands.ui.site import Site
from sweeps.persistence.lock import driving
from sweeps.results.leaderboard import write_all
from sweeps.results.run_folder import Run
from sweeps.tuning.stopping import STOP_FOLDER
from tests.support.driving import contents
from tests.support.report_kit import confirmed, folder, several, trial

TOKEN = "the-token"


@pytest.fixture
def served(tmp_path):
    """Two sweeps, one of which runs, and a chain's phase; a function that asks the server; and the port."""
    root = tmp_path / "runs"
    root.mkdir()
    running = folder(root / "going on", [trial(0, 0.5), trial(1, 0.3, "running", 2)], end=False)
    confirmed(root / "done", n=4)
    (root / "chain").mkdir()
    folder(root / "chain/chain-sft", several(2))
    (tmp_path / "secret.txt").write_text("planted")
    folder(tmp_path / "elsewhere", several(2))
    with driving(running), serving_pages(Site(root, TOKEN), 0) as server:
        port = server.server_address[1]

        def ask(path, method="GET", body=None, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            given = {"Host": f"127.0.0.1:{port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), dict(answer.getheaders())

        yield root, ask, port


def post(ask, port, path, body, **headers):
    given = {"Origin": f"http://127.0.0.1:{port}", "Content_Type": "application/json"} | headers
    return ask(path, "POST", json.dumps(body), **given)[:2]


def stopped(root: Path) -> list[str]:
    return [path.name for path in root.glob(f"*/{STOP_FOLDER}/*")]


def test_the_list_has_every_sweep_with_its_page(served):
    _, ask, _ = served
    status, text, headers = ask(f"/{TOKEN}/")
    assert status == 200
    assert headers["Content-Type"].startswith("text/html")
    for name, told in (("done", "has the best test score"), ("going%20on", "2 of 24"), ("chain/chain-sft", "ended")):
        assert f'href="/{TOKEN}/runs/{name}"' in text
        assert told in text
        status, page, _ = ask(f"/{TOKEN}/runs/{name}")
        assert status == 200
        assert '<section id="leaderboard"' in page
    assert ">running<" in text
    assert "vegaEmbed" in ask(f"/{TOKEN}/vega.js")[1]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil.example", ""])
def test_another_host_s_name_is_refused(served, host):
    """A web site that lets its own name lead to 127.0.0.1 reads and changes nothing."""
    root, ask, _ = served
    assert ask(f"/{TOKEN}/", Host=host)[0] == 403
    path, kind = f"/{TOKEN}/runs/going%20on/stop", "application/json"
    body = json.dumps({"trial": "1"})
    assert ask(path, "POST", body, Host=host, Origin=f"http://{host}", Content_Type=kind)[0] == 403
    assert stopped(root) == []


def test_this_machine_s_own_names_are_answered(served):
    _, ask, port = served
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "localhost", f"[::1]:{port}"):
        assert ask(f"/{TOKEN}/", Host=host)[0] == 200, host


@pytest.mark.parametrize("start", ["", "/x", "/the-toke", "/the-token2", "/%74he-token"])
def test_without_the_token_nothing_is_told(served, start):
    root, ask, port = served
    for path in ("/", "/runs/done", "/vega.js", "/runs/nothing"):
        status, text, _ = ask(f"{start}{path}")
        assert status == 403
        assert text == "Open the address that `espalier ui` printed: it has the key.\n"
    assert post(ask, port, f"{start}/runs/going%20on/stop", {"trial": "1"})[0] == 403
    assert stopped(root) == []


def test_a_get_changes_nothing(served):
    root, ask, _ = served
    before = contents(root)
    for path in ("runs/going%20on", "runs/going%20on/stop", "runs/going%20on/stop?trial=1", "runs/going%20on/clone"):
        ask(f"/{TOKEN}/{path}")
    assert contents(root) == before


@pytest.mark.parametrize(
    "path",
    ["../elsewhere", "../secret.txt", "%2e%2e/elsewhere", "..%2felsewhere", "done/../../elsewhere", "done/sweep.yaml",
     "//etc/passwd", "nothing", ""],
)  # fmt: skip
def test_what_is_no_sweep_of_the_folder_is_not_there(served, path):
    root, ask, port = served
    status, text, _ = ask(f"/{TOKEN}/runs/{path}")
    assert (status, text) == (404, "There is no such page.\n")
    assert post(ask, port, f"/{TOKEN}/runs/{path}/stop", {"trial": "0"})[0] == 404
    assert stopped(root.parent) == []


def test_a_trial_is_stopped_by_a_post_of_this_server_s_page_alone(served):
    root, ask, port = served
    path, other = f"/{TOKEN}/runs/going%20on/stop", {"trial": "1"}
    for origin in ("http://evil.example", "null", f"http://localhost:{port}", f"https://127.0.0.1:{port}"):
        assert post(ask, port, path, other, Origin=origin)[0] == 403, origin
    assert ask(path, "POST", json.dumps(other), Content_Type="application/json")[0] == 403, "without an origin"
    form = post(ask, port, path, other, Content_Type="text/plain")
    assert form == (
        400,
        json.dumps({"said": f"send a JSON object of at most {LONGEST_BODY} bytes as application/json"}),
    )
    assert stopped(root) == []
    status, text = post(ask, port, path, other)
    assert (status, json.loads(text)["said"]) == (200, f"{root}/going on: trial 1 stops after the round it is in")
    assert stopped(root) == ["t1"]


@pytest.mark.parametrize(
    ("name", "verb", "body", "status", "said"),
    [
        ("going%20on", "stop", {"trial": "0"}, 400, "trial 0 finished: only a running or paused trial can be stopped"),
        ("going%20on", "stop", {"trial": "9"}, 400, "has no trial '9'"),
        ("going%20on", "stop", {"trial": 1}, 400, "a trial is a text"),
        ("going%20on", "stop", ["1"], 400, "no JSON object"),
        ("going%20on", "clone", {"trial": "1", "values": "r=8"}, 400, "values are a list"),
        ("going%20on", "clone", {"trial": "1", "values": ["r=8"] * LONGEST_BODY}, 400, "at most 65536 bytes"),
        ("done", "stop", {"trial": "0"}, 400, "has ended; start another"),
        ("going%20on", "delete", {"trial": "1"}, 404, "no such page"),
    ],
)
def test_what_cannot_be_done_is_one_line(served, name, verb, body, status, said):
    root, ask, port = served
    answer = post(ask, port, f"/{TOKEN}/runs/{name}/{verb}", body)
    assert answer[0] == status
    assert said in answer[1]
    assert stopped(root) == []


def test_a_page_is_made_again_when_its_sweep_has_got_on(served):
    root, ask, _ = served
    path = f"/{TOKEN}/runs/going%20on"
    status, text, headers = ask(path)
    assert f'data-tag="{headers["ETag"]}"' in text
    assert ask(path, If_None_Match=headers["ETag"])[:2] == (304, "")
    records = Run.read(root / "going on").records
    write_all(root / "going on", [*records, trial(2, 0.7)], baselines={}, rounds=4, pairs=["lora"])
    status, newer, after = ask(path, If_None_Match=headers["ETag"])
    assert status == 200
    assert after["ETag"] != headers["ETag"]
    assert 'data-trial="2"' in newer
    assert 'data-trial="2"' not in text


def test_no_other_page_may_frame_a_page_or_learn_its_address(served):
    _, ask, _ = served
    headers = ask(f"/{TOKEN}/runs/done")[2]
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_damaged_sweep_is_said_and_hides_no_other(served):
    root, ask, _ = served
    (root / "done/sweep.yaml").write_text("sweep: [")
    status, text, _ = ask(f"/{TOKEN}/runs/done")
    assert status == 500
    assert text.count("\n") == 1
    text = ask(f"/{TOKEN}/")[1]
    assert ">damaged<" in text
    assert ">running<" in text
