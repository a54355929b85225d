"""Primitives, each on a grid whose result was worked out by hand; all of them on odd grids."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.support.program_grids import grid
from trainables.tasks.arc.programs.search import PRIMITIVES
from trainables.tasks.arc.programs.sizes import FITTINGS, sizes

NAMED = {one.name: one for one in PRIMITIVES}

# name -> rows before, rows after
HAND = {
    "turn 1": ("12 30", "20 13"),
    "move right": ("12 30", "01 03"),
    "roll right": ("12 30", "21 03"),
    "to the lower right": ("120 000", "000 012"),
    "box": ("0000 0120 0000", "12"),
    "inside": ("1111 1231 1111", "23"),
    "no repeats": ("1122 1122", "12"),
    "smallest tile": ("1212 3434 1212 3434", "12 34"),
    "half 1 along 1": ("12534", "34"),
    "quarter (1, 0)": ("12 34", "3"),
    "odd part": ("151525 151525", "2 2"),
    "part with most cells": ("105215 025115", "21 11"),
    "commonest of parts": ("115005 115025 555555 335445", "12 34"),
    "enlarge 2": ("12", "1122 1122"),
    "tile (1, 2)": ("12", "1212"),
    "four mirrors": ("12", "1221 1221"),
    "four turns": ("12 34", "1231 3442 2443 1321"),
    "into itself": ("10 11", "1000 1100 1010 1111"),
    "enlarge by colours": ("12", "1122 1122"),
    "to three": ("100000 000000 000200 000000 000000 000003", "100 020 003"),
    "only the rarest": ("1120", "0020"),
    "painted the commonest": ("1120", "1110"),
    "inverted": ("1010", "0101"),
    "exchanged": ("1120", "2210"),
    "ranked": ("5583", "1132"),
    "bars": ("1120", "11 20"),
    "in a row": ("10 23", "123"),
    "by frequency": ("3355 0355", "5 3"),
    "rays right": ("0100 0020", "0111 0022"),
    "rays up": ("00 00 30", "30 30 30"),
    "whole rows": ("010 000", "111 000"),
    "diagonal down right": ("100 000 000", "100 010 001"),
    "diagonal up left": ("000 000 004", "400 040 004"),
    "links across": ("1001 0200", "1111 0200"),
    "cells fall down": ("12 30 00", "00 10 32"),
    "figures fall down": ("12 02 00 30", "00 00 12 32"),
    "grown over sides": ("000 010 000", "010 111 010"),
    "outline": ("000 010 000", "111 101 111"),
    "worn": ("1111 1111 1111", "0000 0110 0000"),
    "uniform lines": ("111 020 000", "111 000 000"),
    "without loners": ("1100 0003", "1100 0000"),
    "spanned": ("100 000 020", "110 110 110"),
    "mirrored about the grid": ("100 000 000", "101 000 101"),
    "turned about the grid": ("010 000 000", "010 101 010"),
    "completed by period": ("1212 2121 1202 2121", "1212 2121 1212 2121"),
    "completed by mirrors": ("1221 3443 3403 1221", "1221 3443 3443 1221"),
    "drawn on across": ("120000 210000", "121212 212121"),
    "cut out the figure largest": ("1200 0003", "12"),
    "cut out the object largest": ("1102 0002 3002", "2 2 2"),
    "keep the object smallest": ("1102 0002 3002", "0000 0000 3000"),
    "drop the object largest": ("1102 0002 3002", "1100 0000 3000"),
    "as many as objects": ("1102 0002 3002", "111"),
    "enclosed": ("1111 1001 1111", "0000 0110 0000"),
    "filled holes": ("2222 2002 2222", "2222 2222 2222"),
    "filled box of each figure": ("10 11", "11 11"),
    "depth": ("111 111 111", "111 121 111"),
    "rings exchanged of each figure": ("333 343 333", "444 434 444"),
    "size of each object": ("1102 0002 3002", "2203 0003 1003"),
    "place by size of each object": ("1102 0002 3002", "2201 0001 3001"),
    "size of each enclosed area": ("1111 1001 1111", "0000 0220 0000"),
    "chequered": ("00 00", "12 21"),
    "to the edge": ("000 000 000", "111 121 111"),
    "column modulo 2": ("000", "121"),
    "drawn sides": ("010 111", "323 242"),
    "equal sides": ("11 12", "32 21"),
    "distance": ("1000", "0123"),
    "drawn in the row": ("110 000", "333 111"),
}


@pytest.mark.parametrize("name", HAND)
def test_a_primitive_by_hand(name):
    before, after = HAND[name]
    made = NAMED[name].run(grid(before))
    assert made.tolist() == grid(after).tolist()


# Two grids: what is made of the first and the task's input.
BOTH = {
    "over": ("10 00", "23 45", "13 45"),
    "under": ("11 11", "20 03", "21 13"),
    "within": ("10 01", "23 45", "20 05"),
    "outside": ("10 01", "23 45", "03 40"),
    "new": ("11 11", "20 03", "01 10"),
    "cut from the input": ("010 000", "234 567", "3"),
    "box of what changed": ("1234 5678", "1204 5008", "23 67"),
}


@pytest.mark.parametrize("name", BOTH)
def test_a_grid_and_the_input(name):
    first, source, after = BOTH[name]
    assert NAMED[name].run(grid(first), grid(source)).tolist() == grid(after).tolist()


def test_names_are_given_once():
    assert max(Counter(one.name for one in PRIMITIVES).values()) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (7, 30), (30, 30)])
def test_no_primitive_fails_or_changes_its_input(shape):
    rng = np.random.default_rng(0)
    grids = [np.full(shape, colour, dtype=np.int8) for colour in (0, 9)]
    grids += [rng.integers(0, most, shape).astype(np.int8) for most in (2, 10)]
    for own in grids:
        own.setflags(write=False)
        for one in PRIMITIVES:
            made = one.run(own, own) if one.reads_input else one.run(own)
            if made is not None:
                assert (made.dtype, made.ndim) == (np.int8, 2), one.name
                assert not made.size or 0 <= made.min() <= made.max() <= 9, one.name


FITTED = {
    "repeated": ("12", (2, 3), "121 121"),
    "enlarged": ("12", (2, 4), "1122 1122"),
    "upper left corner": ("12 34", (1, 3), "120"),
    "lower right corner": ("12 34", (3, 1), "0 2 4"),
    "centred": ("5", (3, 3), "000 050 000"),
    "repeated in mirrors": ("123", (1, 6), "123212"),
}


@pytest.mark.parametrize("name", FITTED)
def test_a_grid_is_brought_to_a_size(name):
    before, shape, after = FITTED[name]
    assert FITTINGS[name](grid(before), shape).tolist() == grid(after).tolist()


@pytest.mark.parametrize(
    ("shown", "asked", "expected"),
    [
        ([(3, 3), (3, 3)], [(5, 5), (6, 7), (9, 9)], (3, 3)),  # always the same
        ([(4, 6), (6, 9)], [(2, 2), (3, 3), (5, 4)], (10, 12)),  # twice as high, three times as wide
        ([(2, 1), (3, 2)], [(4, 4), (6, 8), (8, 12)], (4, 3)),  # a half, a quarter
        ([(4, 5), (5, 6)], [(3, 5), (4, 6), (7, 7)], (8, 7)),  # one row more
    ],
)
def test_sizes_of_outputs(shown, asked, expected):
    assert sizes(shown, asked, [])[0][-1] == expected


def test_sizes_are_also_those_of_an_image_that_fits():
    assert sizes([(1, 2), (3, 1)], [(5, 5), (5, 5), (5, 5)], [[(1, 2), (3, 1), (4, 4)]]) == [[(1, 2), (3, 1), (4, 4)]]
