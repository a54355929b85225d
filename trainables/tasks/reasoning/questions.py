"""Draw questions from a generator and give each to one split.

A hash of the question's text decides its split, so that no two splits share one, whatever their sizes and seeds. A
question that was drawn before, apart from letter case, spaces and punctuation, is left out and counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from trainables.checks.near_duplicates import plain
from trainables.core import Split
from trainables.models.base_fault import first_line
from trainables.tasks.files.splits import hash_fraction
from trainables.tasks.reasoning.generators import MOST_DRAWS, PREFIX, Generator, open_dataset
from trainables.tasks.reasoning.verifier import VerifierFault, check_constants, check_verifier

SHARES: Mapping[Split, float] = {"train": 0.5, "search": 0.2, "test": 0.3}
IN_VAIN = 500  # draws in a row without a question that is needed: there are no more


class Sizes(NamedTuple):
    """Questions of one generator by split."""

    train: int
    search: int
    test: int


class Question(NamedTuple):
    entry: Mapping[str, Any]  # reasoning-gym's: question, answer, metadata
    key: str  # the hash of the question's text


@dataclass(frozen=True)
class Drawn:
    """What was drawn from a generator. A split has fewer questions than asked for if there are no more."""

    splits: Mapping[Split, tuple[Question, ...]]
    draws: int
    repeated: int  # of these: questions that were drawn before

    def fingerprint(self) -> str:
        """Return a hash of all questions and answers."""
        digest = hashlib.sha256()
        for split, own in self.splits.items():
            digest.update(repr([(split, one.entry["question"], one.entry["answer"]) for one in own]).encode())
        return digest.hexdigest()


@lru_cache(maxsize=128)
def draw(generator: Generator, seed: int, sizes: Sizes) -> Drawn:
    """Draw until every split has its questions; a larger size only appends some. Verifiers are checked with each one.

    Raise ValueError in one line for a generator that cannot be used.
    """
    dataset = open_dataset(generator, stream(seed, generator.name))
    wanted = sizes._asdict()
    made: dict[str, list[Question]] = {split: [] for split in wanted}
    seen: set[str] = set()
    draws = repeated = in_vain = 0
    while draws < MOST_DRAWS and in_vain < IN_VAIN and any(len(made[split]) < size for split, size in wanted.items()):
        entry = _entry(dataset, draws, generator)
        draws, in_vain = draws + 1, in_vain + 1
        text = plain(entry["question"])
        if text in seen:
            repeated += 1
            continue
        seen.add(text)
        split = split_of(text)
        if len(made[split]) < wanted[split]:
            with _named(generator):
                check_verifier(dataset, entry)
            made[split].append(Question(entry, hashlib.sha256(text.encode()).hexdigest()[:16]))
            in_vain = 0
    splits: dict[Split, tuple[Question, ...]] = {split: tuple(made[split]) for split in SHARES}
    return Drawn(splits, draws, repeated)


def check_no_constant(drawn: Sequence[tuple[Generator, Sizes]], seed: int) -> None:
    """Raise ValueError, in one line, if the verifier of one of the generators believes one answer to everything.

    Call it once, before trials start: it scores every question several times.
    """
    for generator, sizes in drawn:
        splits = draw(generator, seed, sizes).splits
        dataset = open_dataset(generator, stream(seed, generator.name))
        with _named(generator):
            check_constants(dataset, [one.entry for own in splits.values() for one in own])


def stream(seed: int, name: str) -> int:
    """Return a generator's own seed. It is a hash, because question i of seed s is question 0 of seed s + i."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


def split_of(text: str) -> Split:
    """Return the split of a question. It depends on nothing but the text, as several generators may ask the same."""
    place = hash_fraction(text)
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "test"


def _entry(dataset: Any, index: int, generator: Generator) -> Mapping[str, Any]:
    try:
        return dataset[index]
    except Exception as error:  # whatever a generator raises for its parameters
        raise ValueError(f"{PREFIX}{generator} makes no question {index}: {first_line(error)}") from error


@contextmanager
def _named(generator: Generator) -> Iterator[None]:
    """Add the generator's name to a fault of its verifier."""
    try:
        yield
    except VerifierFault as fault:
        raise ValueError(f"{PREFIX}{generator.name} {fault}; leave this generator out") from fault
