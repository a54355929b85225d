"""A sweep's folder that is damaged or was changed by hand: every command ends in one line that names the file."""

from __future__ import annotations

import copy
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from sweeps.persistence.lock import driving
from sweeps.results.run_folder import END_FILE, SWEEP_FILE
from sweeps.results.tables import BESIDE, FINALISTS, TRIALS
from tests.support.commands_kit import COMMANDS, FLAGS, called

Damage = Callable[[Path], Any]
WRONG = (None, 3, -1, 2**70, 0.5, float("nan"), float("inf"), "x", "", "../../x", "a\0b", True, [], {}, [[1]], {1: 2})


def facts_with(*path: Any, value: Any = ...) -> Damage:
    """Replace an entry of sweep.yaml, or remove it."""

    def damage(run: Path) -> None:
        facts = yaml.safe_load((run / SWEEP_FILE).read_text())
        put(facts, path, value)
        (run / SWEEP_FILE).write_text(yaml.safe_dump(facts))

    return damage


def put(facts: Any, path: tuple[Any, ...], value: Any) -> None:
    """Replace the entry at a path, or remove it where the value is `...`."""
    for name in path[:-1]:
        facts = facts[name]
    if value is ...:
        del facts[path[-1]]
    else:
        facts[path[-1]] = value


def text(name: str, content: str | bytes) -> Damage:
    return lambda run: (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def column(file: str, name: str, value: Any = ...) -> Damage:
    """Fill a column of a table with a value, or remove it."""

    def damage(run: Path) -> None:
        table = pd.read_parquet(run / file)
        table = table.drop(columns=name) if value is ... else table.assign(**{name: [value] * len(table)})
        table.to_parquet(run / file)

    return damage


def lost_answer(run: Path) -> None:
    table = pd.read_parquet(run / FINALISTS)
    table.drop(index=table.index[0]).to_parquet(run / FINALISTS)


PAIR = ("sweep", "pairs", 0)
ALL = {  # what all commands but the likes of `report` need: the first file that each of them reads
    "no sweep": facts_with("sweep"),
    "a list": text(SWEEP_FILE, "[1, 2]"),
    "a tag": text(SWEEP_FILE, "!!python/object/apply:os.system [exit]"),
    "nothing": text(SWEEP_FILE, ""),
    "bytes": text(SWEEP_FILE, b"\xff\xfe\x00"),
    "no pairs": facts_with("sweep", "pairs", value=[]),
    "pairs": facts_with("sweep", "pairs", value="lora"),
    "a base": facts_with(*PAIR, "base", value=7),
    "fields": facts_with(*PAIR, "task", "fields", value=[1]),
    "rounds": facts_with("sweep", "rounds", value="8"),
    "command": facts_with("command", value=[]),
    "the end": text(END_FILE, "seating: 7"),
    "an endless end": text(END_FILE, "[" * 1000),  # more than Python may nest
    "trials": text(TRIALS, b"PAR1 and more that is no table PAR1"),
    "no params": column(TRIALS, "params"),
    "params": column(TRIALS, "params", "[1, 2]"),
    "an id": column(TRIALS, "trial_id", "../../leak"),
    "scores": column(TRIALS, "score", "high"),
}
SOME = {  # what the commands read that make the sweep again
    "an axis": facts_with("sweep", "space", "axes", "learning_rate", "type", value="log"),
    "a condition": facts_with("sweep", "space", "conditions", value={"learning_rate": 3}),
    "a field": facts_with(*PAIR, "learner", "fields", "r", value="eight"),
    "a size": facts_with(*PAIR, "task", "fields", "train_size", value=[50]),
    "a number": facts_with("sweep", "max_cost", value="much"),
    "a name": facts_with("sweep", "name", value="../../leak"),
}
FINALS = {
    "finalists": text(FINALISTS, b""),
    "no answers": column(FINALISTS, "item"),
    "a score": column(FINALISTS, "score", "high"),
    "a prompt": column(FINALISTS, "prompt", 7),
    "an answer lost": lost_answer,
    "lost": text(BESIDE, "lost: 3"),
}
READS_ALL = ("status", "report", "stop", "clone", "reproduce", "export", "judge", "attribute", "like", "resume")
REBUILDS = ("clone", "reproduce", "export", "attribute", "like", "resume")
CALLS = {name: argv for name, argv in (COMMANDS | FLAGS).items() if name in READS_ALL}


@pytest.mark.parametrize(
    ("kind", "damage", "names"),
    [
        *((kind, damage, READS_ALL) for kind, damage in ALL.items()),
        *((kind, damage, REBUILDS) for kind, damage in SOME.items()),
        *((kind, damage, ("status", "report", "reproduce", "export", "judge")) for kind, damage in FINALS.items()),
    ],
)
def test_it_is_one_line(
    kind: str, damage: Damage, names: tuple[str, ...], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    damage(run)
    trials = kind in ("trials", "no params", "params", "an id", "scores")
    for name in names:
        if name == "resume" and (trials or kind in ("command", "the end", "an endless end")):
            continue  # it reads these files only when Ray runs
        if (name, kind) in (("judge", "lost"), ("reproduce", "lost"), ("resume", "a name")):
            continue  # it does not need that
        said = status_and_words(name, run, monkeypatch, capsys)
        assert said[0] == 2, (name, said)
        (line,) = said[1].strip().splitlines()
        assert line.startswith(("espalier: ", "script.py: ")), (name, line)


def status_and_words(name: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[Any, str]:
    """Call a command: `stop` and `clone` while this process seems to run the sweep, as they need that."""
    if name not in ("stop", "clone"):
        return called(CALLS[name], monkeypatch), capsys.readouterr().err
    with driving(run):
        return called(CALLS[name], monkeypatch), capsys.readouterr().err


def test_any_wrong_value_in_sweep_yaml_is_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or is not used. Commands that train are left out."""
    monkeypatch.setattr("sweeps.cli.main._plan", lambda sweeps, flags, argv: "finished")
    whole, draw = yaml.safe_load((run / SWEEP_FILE).read_text()), random.Random(0)
    for _ in range(150):
        facts = copy.deepcopy(whole)
        place = draw.choice([path for path in paths(facts["sweep"]) if path])
        value = draw.choice((..., *WRONG))
        put(facts, ("sweep", *place), value)
        (run / SWEEP_FILE).write_text(yaml.safe_dump(facts))
        for name in ("status", "clone", "like"):
            status, said = status_and_words(name, run, monkeypatch, capsys)
            assert status in (0, 2), (place, value, name)
            assert len(said.strip().splitlines()) == (status == 2), (place, value, name, said)


def paths(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    if isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from ((name, *rest) for rest in paths(part))


@pytest.mark.parametrize(
    ("name", "link"), [("report", "plots"), ("stop", "stop"), ("clone", "clones"), ("judge", "verdicts.jsonl")]
)
def test_nothing_is_written_through_a_link(
    name: str, link: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = run.parents[1] / "mine"
    mine.mkdir()
    (run / link).symlink_to(mine / "written" if "." in link else mine)
    pd.read_parquet(run / TRIALS).assign(status="running").to_parquet(run / TRIALS)
    status, said = status_and_words(name, run, monkeypatch, capsys)
    assert status == 2
    assert f"{run.name}/{link} is a link, which no sweep makes; remove it" in said
    assert not any(mine.iterdir())


def test_a_command_that_a_folder_records_trusts_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` prints how to go on, and readers paste it."""
    facts_with("command", value=["own.py", "--trust", "folder", "evil.py", "--seed", "1", "--trust=x.py"])(run)
    shutil.rmtree(run / "best")
    assert called(["status", "runs/run"], monkeypatch) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("go on with: "))
    assert line.endswith(" own.py --seed 1 --name run --resume")
