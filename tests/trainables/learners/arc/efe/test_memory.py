"""The memory of `efe`: who is admitted, found and evicted, by hand."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from trainables.learners.arc.efe.memory import Memory, blend

EVEN = torch.full((10,), 0.1)
SOUTH, NORTH, EAST = torch.tensor([0.0, -1.0]), torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])


def write(memory: Memory, name: str, key: Tensor = NORTH, value: float = 0.0, success: float = 1.0) -> bool:
    return memory.write(name, key, {"z": torch.tensor([value])}, EVEN, success)


def names(memory: Memory, key: Tensor = NORTH, without: str | None = None) -> list[str]:
    return [entry.name for _, entry in memory.retrieve(key, without)]


def held(memory: Memory) -> list[str]:
    return [entry["name"] for entry in memory.state()["entries"]]


def compass(**options: object) -> Memory:
    """Against (0, 1): cosines 1, 0.8, 0.6, 0 and -1. Lengths must not count: a dot product would order otherwise."""
    memory = Memory(**{"capacity": 10, "k": 10, **options})  # type: ignore[arg-type]
    keys = {"far": (8.0, 6.0), "same": (0.0, 0.1), "near": (3.0, 4.0), "across": (9.0, 0.0), "opposed": (0.0, -5.0)}
    for number, (name, key) in enumerate(keys.items()):
        write(memory, name, torch.tensor(key), float(number))
    return memory


def test_similarities_by_hand():
    matches = compass().retrieve(torch.tensor([0.0, 7.0]))
    assert [entry.name for _, entry in matches] == ["same", "near", "far"]
    assert [similarity for similarity, _ in matches] == pytest.approx([1.0, 0.8, 0.6])
    assert compass().retrieve(torch.zeros(2)) == []  # like nothing at all
    assert Memory(3, 3).retrieve(NORTH) == []


def test_at_most_k_and_only_above_the_minimum():
    assert names(compass(k=2)) == ["same", "near"]
    four = torch.ones(4)  # its cosine with an axis is exactly 1/2
    for minimum, found in ((0.5, []), (0.4999, ["axis"])):
        memory = Memory(10, 10, min_similarity=minimum)
        write(memory, "axis", torch.tensor([1.0, 0.0, 0.0, 0.0]))
        assert names(memory, four) == found


def test_a_problem_does_not_find_itself():
    memory = compass(k=2)
    assert names(memory, without="same") == ["near", "far"]  # and k are still found
    alone = Memory(1, 1)
    write(alone, "self")
    assert names(alone, without="self") == []
    assert alone.retrievals == 0


@pytest.mark.parametrize(
    ("threshold", "success", "admitted"),
    [
        (0.5, 1 / 2, True),
        (0.5, 1 / 3, False),
        (2 / 3, 2 / 3, True),
        (1.0, 1.0, True),
        (1.0, 0.75, False),
        (0.0, 0, True),
    ],
)
def test_admission_at_the_threshold(threshold, success, admitted):
    memory = Memory(2, 1, success_threshold=threshold)
    assert write(memory, "a", success=success) is admitted
    assert len(memory) == memory.writes == int(admitted)


def test_the_oldest_is_evicted():
    memory = Memory(2, 5, eviction="oldest")
    for name in "ab":
        write(memory, name)
    names(memory)
    write(memory, "a")  # written anew, so b is the oldest
    write(memory, "c")
    assert (held(memory), memory.evictions, memory.writes) == (["a", "c"], 1, 4)
    write(memory, "d")
    assert held(memory) == ["c", "d"]


def test_the_least_used_is_evicted():
    memory = Memory(3, 1, eviction="least_used")
    for name, key in (("a", NORTH), ("b", SOUTH), ("c", EAST)):
        write(memory, name, key)
    for key in (NORTH, NORTH, EAST, SOUTH):
        memory.retrieve(key)
    write(memory, "d", torch.tensor([-1.0, 0.0]))  # used: a 2, b 1, c 1; b is the older of the two
    assert held(memory) == ["a", "c", "d"]
    write(memory, "a", NORTH)  # replaced, but its two uses stay
    write(memory, "e", SOUTH)  # used: c 1, d 0, a 2
    assert (held(memory), memory.evictions) == (["c", "a", "e"], 2)
    write(memory, "f")  # used: c 1, a 2, e 0
    assert held(memory) == ["c", "a", "f"]


def test_what_is_refused_evicts_nobody():
    memory = Memory(1, 1)
    write(memory, "a")
    assert not write(memory, "b", success=0.5)
    assert (held(memory), memory.evictions) == (["a"], 0)


def test_a_name_is_replaced_unless_it_was_solved_better():
    memory = Memory(2, 1, success_threshold=0.25)
    assert write(memory, "a", NORTH, 1.0, success=0.5)
    assert not write(memory, "a", SOUTH, 2.0, success=0.25)
    assert memory.retrieve(NORTH)[0][1].value["z"].item() == 1.0
    assert write(memory, "a", EAST, 3.0, success=0.5)
    assert memory.retrieve(NORTH) == []
    assert memory.retrieve(EAST)[0][1].value["z"].item() == 3.0
    assert (len(memory), memory.writes, memory.evictions) == (1, 2, 0)


def test_blend_weighs_by_similarity():
    """0.8 and 0.6 of 1.4: (0.8 x 2 + 0.6 x 0) / 1.4; a softmax would give 2 / (1 + e^-0.2) = 1.1."""
    matches = compass().retrieve(torch.tensor([0.0, 1.0]), without="same")
    blended = blend(matches)
    assert blended["z"].tolist() == pytest.approx([1.6 / 1.4])
    assert blend(matches[:1])["z"].tolist() == [2.0]
    blend(matches[:1])["z"].add_(5)  # a caller may train on what it got
    assert matches[0][1].value["z"].item() == 2.0
    assert blend([]) == {}


def test_mean_preference_by_hand():
    memory = Memory(2, 1)
    assert memory.mean_preference() is None
    for name, colour in (("gone", 9), ("a", 0), ("b", 1)):
        memory.write(name, NORTH, {}, torch.eye(10)[colour], 1.0)
    assert memory.mean_preference().tolist() == [0.5, 0.5] + [0.0] * 8


def test_counters():
    memory = compass(k=2, capacity=5)
    for key in (NORTH, NORTH, torch.zeros(2)):
        memory.retrieve(key)
    write(memory, "sixth")
    assert (memory.writes, memory.retrievals, memory.evictions) == (6, 2, 1)


def test_a_state_comes_back_and_later_changes_do_not_show_in_it():
    memory = compass(k=1, eviction="least_used", capacity=5)
    memory.retrieve(NORTH)
    state = pickle.loads(pickle.dumps(memory.state()))
    kept, before = memory.state(), repr(state)
    fresh = Memory(5, 1, eviction="least_used")
    fresh.load(state)
    for each in (memory, fresh):
        each.retrieve(EAST)
        assert write(each, "new", NORTH, 7.0)
        each.retrieve(NORTH)[0][1].value["z"].add_(1)
    assert repr(fresh.state()) == repr(memory.state()) != before
    assert repr(kept) == repr(state) == before
    fresh.load(kept)
    assert repr(fresh.state()) == before
    assert (held(fresh), fresh.retrievals) == (["far", "same", "near", "across", "opposed"], 1)
    assert names(fresh) == ["same"]


def test_a_smaller_memory_keeps_what_its_policy_would():
    memory = compass()
    memory.retrieve(torch.tensor([3.0, 4.0]), without="same")  # far, near and across
    small = Memory(2, 1, eviction="least_used")
    small.load(memory.state())
    assert held(small) == ["near", "across"]
    assert small.evictions == 3


def test_what_is_written_is_a_copy():
    key, part = torch.tensor([0.0, 1.0], requires_grad=True), torch.ones(1, requires_grad=True)
    memory = Memory(1, 1)
    memory.write("a", key, {"z": part}, EVEN, 1.0)
    with torch.no_grad():
        part.fill_(5)
        key.fill_(-1)
    ((similarity, entry),) = memory.retrieve(NORTH)
    assert (similarity, entry.value["z"].item()) == (1.0, 1.0)
    assert not entry.value["z"].requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "capacity is 0; it must be at least 1"),
        ({"k": 0}, "k is 0; it must be at least 1"),
        ({"min_similarity": -0.1}, r"min_similarity is -0.1; it must lie in \[0, 1\)"),
        ({"eviction": "newest"}, "eviction is 'newest'; it must be 'oldest' or 'least_used'"),
        ({"success_threshold": 1.1}, r"success_threshold is 1.1; it must lie in \[0, 1\]"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Memory(**{"capacity": 1, "k": 1, **options})


def test_what_cannot_be_held():
    memory = Memory(3, 1)
    write(memory, "a")
    with pytest.raises(ValueError, match=r"shapes {'key': \(3,\), 'z': \(1,\)}, those held {'key': \(2,\)"):
        write(memory, "b", torch.ones(3))
    with pytest.raises(ValueError, match=r"shapes {'key': \(2,\)}, those held .* keep a memory per model"):
        memory.write("b", NORTH, {}, EVEN, 1.0)
    with pytest.raises(ValueError, match=r"the preference has shape \(9,\); give 10 probabilities"):
        memory.write("b", NORTH, {}, EVEN[:9], 1.0)
    with pytest.raises(ValueError, match=r"success is nan; give the share of held-out demonstrations solved"):
        write(memory, "b", success=float("nan"))
