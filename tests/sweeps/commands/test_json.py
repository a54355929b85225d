"""`--json`: one line that fits the schema and says what the text says, and the same exit statuses."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import jsonschema
import pytest

from sweeps.cli.main import console, main
from sweeps.cli import doctor
from sweeps.results.run_folder import Run
from sweeps.results.trial_history import TrialHistory
from sweeps.tuning import estimate
from tests.support import report_kit
from tests.support.json_kit import SCHEMA, checked
from tests.support.report_kit import final, questions, several
from tests.support.toy_sweep import SWEEP
from tests.sweeps.tuning.test_estimate import COST

ASKED = questions(300)


def sweep(path, rate, records=None, seeds=3):
    finals = [final("trial 0", rate, "t0", ASKED, seeds=seeds), final("trial 3", rate / 2, "t3", ASKED, seeds=seeds)]
    return report_kit.folder(path, records or several(), finals=finals, asked=ASKED)


def said(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["espalier", *map(str, words), "--json"])
    console()
    return checked(capsys.readouterr().out, words[0])


def test_status_names_a_winner_only_where_one_is_shown(tmp_path, monkeypatch, capsys):
    folder = sweep(tmp_path / "clear", 0.8)
    found = said(monkeypatch, capsys, "status", folder)
    assert found["verdict"]["winner"] == "trial 0"
    assert (found["state"], found["process"], found["resume"]) == ("ended", None, None)
    assert found["best"]["trial_id"] == "t0"
    assert sum(found["counts"].values()) == len(Run.read(folder).records)
    assert [one["name"] for one in found["finalists"]] == [one.name for one in Run.read(folder).finals]
    assert found["finalists"][0]["interval"] == pytest.approx(Run.read(folder).confirmation.bounds()["trial 0"])

    close = [final("trial 0", 0.5, "t0", ASKED), final("trial 3", 0.49, "t3", ASKED)]
    found = said(
        monkeypatch, capsys, "status", report_kit.folder(tmp_path / "close", several(), finals=close, asked=ASKED)
    )
    assert found["verdict"]["winner"] is None
    assert set(found["verdict"]["tied"]) == {"trial 0", "trial 3"}

    unconfirmed = report_kit.folder(tmp_path / "open", several(), end=False)
    found = said(monkeypatch, capsys, "status", unconfirmed)
    assert (found["verdict"], found["finalists"], found["state"]) == (None, [], "stopped")
    assert found["resume"].endswith("--resume")


def test_the_leaderboard_has_every_trial_also_one_without_a_number(tmp_path, monkeypatch, capsys):
    odd = replace(several()[0], history=TrialHistory(({"round": 1, "score": math.nan, "loss": math.nan},)))
    records = [odd, *several()[1:]]
    folder = report_kit.folder(tmp_path / "x", records)
    found = said(monkeypatch, capsys, "leaderboard", folder)
    assert {one["number"] for one in found["trials"]} == {one.number for one in records}
    scores = [one["score"] for one in found["trials"] if one["rank"] and one["score"] is not None]
    assert scores == sorted(scores, reverse=True)
    own = next(one for one in found["trials"] if one["number"] == 1)
    assert own["params"] == dict(records[1].params.fields)


def test_report_and_compare(tmp_path, monkeypatch, capsys):
    one, other = sweep(tmp_path / "one", 0.5), sweep(tmp_path / "other", 0.8)
    found = said(monkeypatch, capsys, "report", one)
    assert found["report"] == str(one / "report.html")
    assert found["headline"] in (one / "report.html").read_text()
    found = said(monkeypatch, capsys, "compare", one, other)
    assert (found["first"], found["second"], found["better"]) == ("other: trial 0", "one: trial 0", True)
    assert found["common_questions"] == 300
    assert found["interval"][0] < found["difference"] < found["interval"][1]


def test_doctor_tells_each_check_and_ends_with_its_status(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in ("python", "disk", "statistics")})
    monkeypatch.setattr(sys, "argv", ["espalier", "doctor", "--json"])
    with pytest.raises(SystemExit) as end:
        console()
    assert end.value.code == 1
    found = checked(capsys.readouterr().out, "doctor")
    assert [(one["name"], one["state"]) for one in found["checks"]] == [
        ("python", "ok"),
        ("disk", "wrong"),
        ("statistics", "ok"),
    ]
    assert found["checks"][1]["remedy"].startswith("make room")
    assert (found["wrong"], found["warnings"]) == (1, 0)


def test_plan_leaves_its_text_to_standard_error(monkeypatch, capsys):
    """What is measured is set here; tests/e2e measures."""
    monkeypatch.setattr(estimate, "probe", lambda sweep, threads, lanes: [COST])
    main(SWEEP, ["--plan", "--json"])
    printed = capsys.readouterr()
    found = checked(printed.out, "plan")
    (own,) = found["sweeps"]
    assert (own["name"], own["trials"], own["rounds"]) == (SWEEP.name, SWEEP.num_samples, SWEEP.rounds)
    assert own["hours"] == found["hours"] > 0
    assert own["probes"][SWEEP.pair_names[0] or SWEEP.name]["round_s"] == 1.0
    assert "estimate: " in printed.err


def test_bad_input_prints_no_json_and_has_its_status(tmp_path, monkeypatch, capsys):
    for words in (["status", str(tmp_path / "none")], ["compare", str(tmp_path), str(tmp_path)]):
        monkeypatch.setattr(sys, "argv", ["espalier", *words, "--json"])
        with pytest.raises(SystemExit) as end:
            console()
        assert end.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert len(printed.err.splitlines()) == 1
    with pytest.raises(SystemExit) as end:
        main(SWEEP, ["--json"])
    assert end.value.code == 2
    assert "add --plan" in capsys.readouterr().err


def test_the_schema_refuses_what_it_does_not_know():
    whole = {"schema": 1, "command": "doctor", "checks": [], "wrong": 0, "warnings": 0}
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    assert validator.is_valid(whole)
    for broken in (whole | {"schema": 2}, whole | {"more": 1}, {k: v for k, v in whole.items() if k != "wrong"}):
        assert not validator.is_valid(json.loads(json.dumps(broken)))
