"""The documents that share a row: by hand, against TRL's packing, and for lengths of all kinds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.training.packing_plan import pack


def test_by_hand():
    """Rows of 10: 7 opens one, 6 another; 4 fits behind 6 to the last token, 3 behind 7; 2 and 1 open a third."""
    assert pack([2, 7, 3, 6, 4, 1], 10) == [[1, 2], [3, 4], [0, 5]]


def test_the_fullest_row_with_room_is_taken_and_not_the_first():
    """Rows of 10: 4 and 4 leave 2 behind them, 5 leaves 5 ... the 2 goes where it leaves nothing."""
    assert pack([6, 5, 4, 3, 2], 10) == [[0, 2], [1, 3, 4]]
    assert pack([4, 7, 6, 3], 10) == [[1, 3], [2, 0]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(40, 64))
def test_no_document_is_lost_none_is_cut_and_no_row_is_too_long(lengths, max_length):
    bins = pack(lengths, max_length)
    assert sorted(place for own in bins for place in own) == list(range(len(lengths)))
    sums = [sum(lengths[place] for place in own) for own in bins]
    assert all(0 < total <= max_length for total in sums)
    # Any two rows, other than what a last one holds, would not have fitted into one.
    assert all(a + b > max_length for i, a in enumerate(sums) for b in sums[i + 1 :])


def test_rows_are_as_full_as_trl_fills_them():
    import datasets
    from trl.data_utils import pack_dataset  # seconds

    rng = random.Random(0)
    for _ in range(10):
        lengths = [rng.randint(1, 40) for _ in range(60)]
        table = datasets.Dataset.from_dict({"input_ids": [[7] * length for length in lengths]})
        theirs = pack_dataset(table, 64, "bfd")["seq_lengths"]
        mine = [sum(lengths[place] for place in own) for own in pack(lengths, 64)]
        assert sorted(mine) == sorted(map(sum, theirs))


@pytest.mark.parametrize(("lengths", "place"), [([3, 11], 1), ([0, 4], 0)])
def test_a_document_without_a_row_is_named(lengths, place):
    with pytest.raises(ValueError, match=rf"document {place} has {lengths[place]} tokens.* 1 to 10"):
        pack(lengths, 10)
