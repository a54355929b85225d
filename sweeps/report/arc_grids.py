"""ARC grids as SVG pictures: a path of unit cells for each colour, in ARC's usual colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trainables.tasks.arc.grids import Grid, parse_completion

PALETTE = ("#000000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaaaaa", "#f012be", "#ff851b", "#7fdbff", "#870c25")
CELL, WIDEST = 14, 150  # px; the size of a cell, unless a grid would become wider than WIDEST
BLOCK = re.compile(r"^(Input|Output|Test input) \d+:\n([0-9\n]+?)(?=\n\n|\n*\Z|\n[A-Z])", re.MULTILINE)


@dataclass(frozen=True)
class Picture:
    """One grid. `cells`: colour and SVG path. `wrong`: a path of crosses over the wrong cells."""

    caption: str
    width: int  # cells
    height: int
    cell: int  # px
    cells: tuple[tuple[str, str], ...]
    wrong: str = ""


@dataclass(frozen=True)
class DrawnTask:
    """A task with an answer: pairs of demonstration grids, and for each test input its input, output and attempts."""

    demonstrations: tuple[tuple[Picture, ...], ...]
    tests: tuple[tuple[Picture, ...], ...]

    @property
    def telling(self) -> tuple[Picture, ...]:
        """The first test that no attempt gets right; the first one, if all are right."""
        missed = (one for one in self.tests if not any(picture.caption.endswith(": right") for picture in one))
        return next(missed, self.tests[0])


def drawn(prompt: str, answer: str, completion: str) -> DrawnTask | None:
    """Parse prompt and answers into pictures. None if they contain no ARC grids; the page then shows text."""
    blocks = [(name, parse_completion(text, 1)) for name, text in BLOCK.findall(prompt)]
    if any(parsed is None for _, parsed in blocks):
        return None
    shown = [picture(parsed[0][0], name.lower()) for name, parsed in blocks if parsed and name != "Test input"]
    inputs = [parsed[0][0] for name, parsed in blocks if parsed and name == "Test input"]
    targets = parse_completion(answer, len(inputs)) if inputs else None
    if targets is None:
        return None
    given = parse_completion(completion, len(inputs)) or [() for _ in inputs]
    tests = []
    for source, (target, *_), attempts in zip(inputs, targets, given, strict=True):
        tests.append((picture(source, "test input"), picture(target, "expected"), *_attempts(attempts, target)))
    return DrawnTask(tuple(zip(shown[::2], shown[1::2], strict=False)), tuple(tests))


def _attempts(attempts: tuple[Grid, ...], target: Grid) -> Iterator[Picture]:
    """Return pictures of the different attempts. A grid without cells is no answer."""
    different = [one for i, one in enumerate(attempts) if not any(np.array_equal(one, other) for other in attempts[:i])]
    for number, grid in enumerate(different, start=1):
        name = "given" if len(different) == 1 else f"attempt {number}"
        if grid.size == 0:
            yield Picture(f"{name}: no answer", 0, 0, 0, ())
        else:
            right = np.array_equal(grid, target)
            yield picture(grid, f"{name}: {'right' if right else 'wrong'}", target)


def picture(grid: Grid, caption: str, expected: Grid | None = None) -> Picture:
    """Return a grid as paths. Adjacent cells of one colour in a row are one rectangle."""
    height, width = grid.shape
    runs: dict[int, list[str]] = {}
    for y, row in enumerate(grid.tolist()):
        start = 0
        for x in range(1, width + 1):
            if x == width or row[x] != row[start]:
                runs.setdefault(row[start], []).append(f"M{start} {y}h{x - start}v1h{start - x}z")
                start = x
    crosses = ""
    if expected is not None and expected.shape == grid.shape:
        wrong = np.argwhere(grid != expected).tolist()
        crosses = "".join(f"M{x}.3 {y}.3l.4 .4M{x}.7 {y}.3l-.4 .4" for y, x in wrong)
    cells = tuple((PALETTE[colour], "".join(parts)) for colour, parts in sorted(runs.items()))
    return Picture(caption, width, height, min(CELL, max(4, WIDEST // max(width, height))), cells, crosses)
