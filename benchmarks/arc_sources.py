"""What each source of ARC answers solves that the others do not, from answers that were kept.

    python benchmarks/arc_all.py --learner programs --keep programs.json
    python benchmarks/arc_all.py --learner percell --keep percell.json
    python benchmarks/arc_sources.py programs.json percell.json runs/joint_gpu/answers.json

Each file is a source, named after its file or, if that is `answers`, after its folder: submissions by task, as
`arc_all.py --keep` and `joint_gpu.py` write them. Only tasks that every source was asked count; one that is in no file
was asked of none. Both attempts count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from benchmarks.arc_all import ALL, share_of
from trainables.core import Split
from trainables.tasks.arc.task import ArcTask

SPLITS: tuple[Split, ...] = ("search", "train", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--data", default=ALL.data, help="the tasks that were asked")
    flags = parser.parse_args()
    said = {name_of(path): json.loads(path.read_text()) for path in flags.files}
    if len(said) < len(flags.files):
        sys.exit(f"{len(flags.files)} files have {len(said)} names, {', '.join(said)}; name each after its source")
    task = ArcTask(data=flags.data, same_size=ALL.same_size, max_side=ALL.max_side)
    for split in SPLITS:
        print("\n".join(lines(split, *right(task, split, said))))


def name_of(path: Path) -> str:
    return path.parent.name if path.stem == "answers" else path.stem


def right(task: ArcTask, split: Split, said: Mapping[str, Mapping[str, str]]) -> tuple[int, dict[str, set[str]]]:
    """Return how many tasks of the split all sources were asked, and the keys that each solves."""
    asked = [one for one in task.split(split) if all(one.key in own for own in said.values())]
    return len(asked), {name: {one.key for one in asked if task.score(one, own[one.key])} for name, own in said.items()}


def lines(split: str, asked: int, solved: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield a Markdown table: what a source solves, what no other solves, and what each other does not."""
    if not asked:
        yield f"{split}: no task was asked of all sources"
        return
    names = [*solved]
    yield f"| {split}, {asked} tasks | solved | by no other | {' | '.join(f'not by {one}' for one in names)} |"
    yield f"|---|---|{'---:|' * (1 + len(names))}"
    for name, own in solved.items():
        alone = own.difference(*(solved[other] for other in names if other != name))
        yield f"| {name} | {_share(len(own), asked)} | {len(alone)} | {_without(own, solved)} |"
    yield f"| at least one | {_share(len(set().union(*solved.values())), asked)} | | {' | ' * (len(names) - 1)} |"


def _share(count: int, asked: int) -> str:
    return share_of([1.0] * count + [0.0] * (asked - count))


def _without(own: set[str], solved: Mapping[str, set[str]]) -> str:
    return " | ".join("" if own is other else str(len(own - other)) for other in solved.values())


if __name__ == "__main__":
    main()
