"""A further look at the test split, with finalists of a search that went on (`--resume --num-samples`).

    runs/<sweep>/looks/1/   what the first look left: finalists.parquet, finalists.yaml, hashes.yaml

What earlier looks have used up follows from these folders alone, so a driver may be killed at any moment between.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from sweeps.results.run_folder import LOOKS, SWEEP_FILE, Run, earlier_looks
from sweeps.results.tables import BESIDE, FINALISTS
from sweeps.results.terminal import print
from sweeps.spec.earlier_looks import after
from sweeps.spec.sweep import Sweep, data_fingerprint
from sweeps.tuning.recorder import HASHES
from trainables.atomic import replace_file, replacing_folder


def begin_look(folder: Path, sweep: Sweep) -> Sweep:
    """Put the finalists of the last look aside, if there are any, and return the sweep for the next one."""
    known = Run.read(folder).confirmation
    if known.finals:
        _put_aside(folder, known.look)
    looks = earlier_looks(folder)
    sweep = sweep.after_looks(after(looks, sweep.pairs[0].task.with_test_after(0)))
    if looks:
        _keep(folder, sweep)
        print(in_words(sweep), flush=True)
    return sweep


def in_words(sweep: Sweep) -> str:
    """Say what the finalists of a further look are asked."""
    look = sweep.earlier.count + 1
    if sweep.earlier.again:
        return f"look {look} at the test split: the same questions, with what is left of the error rate"
    return f"look {look} at the test split: questions and seeds that no finalist has had"


def _put_aside(folder: Path, look: int) -> None:
    """Move what a look left to a folder of its own. The table of answers is deleted first: it is the sign of a look."""
    target = folder / LOOKS / str(look)
    target.parent.mkdir(exist_ok=True)
    with replacing_folder(target) as fresh:
        fresh.mkdir()
        for name in (FINALISTS, BESIDE, HASHES):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, fresh / name)
    for name in (FINALISTS, BESIDE, HASHES):
        (folder / name).unlink(missing_ok=True)


def _keep(folder: Path, sweep: Sweep) -> None:
    """Write what earlier looks have used up into `sweep.yaml`, and what the data is now."""
    facts = dict(Run.read(folder).facts)
    facts["sweep"] = dict(facts["sweep"]) | {"earlier": sweep.to_dict()["earlier"]}
    facts["data_fingerprints"] = {pair.task.name: data_fingerprint(pair.task) for pair in sweep.pairs}
    replace_file(folder / SWEEP_FILE, yaml.safe_dump(facts, sort_keys=False, allow_unicode=True).encode())
