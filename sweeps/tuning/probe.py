"""Measure parts of a round and an evaluation of a pair's default, for `--plan`, and scale them up.

Reads a pickled `ProbeJob` from standard input, and writes one JSON line with a list of costs, one for each pair.

A language learner takes a few optimizer steps, which are scaled up by their tokens, padding included. What it asks
before a step, such as samples to learn from, is measured apart and scaled up by how often a round does so. Of the
prompts and rows that its evaluation asks for, ever larger samples, even by length, are answered while there is time;
the line through the last two, over tokens, is extended to all. What fits into the time is measured as a whole. A
learner that has a model for each question trains and evaluates a round of a few of them, also of the test split. Other
learners train and evaluate a whole round.
"""

from __future__ import annotations

import json
import pickle
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sweeps.results.terminal import print
from trainables.core import Complete, Completion, LanguageLearner, Learner, Pair, Queries, Read, Row, Split

TRIAL_QUERIES = 8  # prompts or rows of the first sample; each later one has at least three times as many
FEW = 20  # questions, of each split, that a learner with a model for each is trained on
TRAINING = 1 / 3  # of the time; few prompts at a time take longer each than many, so they get more
MOST_TOKENS_AT_ONCE = 100_000  # of rows and prompts: beyond them a sample is not enlarged


@dataclass(frozen=True)
class ProbeJob:
    """Pairs that are measured in one process, and the seconds that the measurements of each may take.

    `largest` are the pairs with the weights of the largest shape that their spaces allow.
    """

    pairs: Sequence[Pair]
    largest: Sequence[Pair]
    seed: int
    seconds: float


class SampledLearner:
    """A language learner whose rounds take one step, and whose queries are answered in part.

    `query_s` are the seconds that the whole queries would take; `asked` and `answered` count their prompts and rows.
    `budget_s`: the seconds for a query. A prompt or row that is left out gets the answer of one of similar length.
    `step_began` is when the last round had been prepared, `whole_round` the steps of a round, `asking_s` the seconds
    that each step's own queries took: 0 for a step without any.
    """

    steps_per_round = 1

    def __init__(self, learner: LanguageLearner, budget_s: float) -> None:
        self._learner, self._budget_s = learner, budget_s
        self._prepared, self._tokens = False, list[int]()  # the latter of each micro-batch, padding included
        self.query_s, self.step_began, self.asked, self.answered = 0.0, 0.0, 0, 0
        self.asking_s: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._learner, name)

    @property
    def whole_round(self) -> int:
        return self._learner.steps_per_round

    def next_rows(self) -> list[Row]:
        rows = self._learner.next_rows()
        self._tokens.append(len(rows) * max(len(row.tokens) for row in rows))
        return rows

    def tokens_of_steps(self, steps: int) -> list[int]:
        """Return the tokens of the first steps. Draws the rows of steps that have not been taken."""
        micro = self._learner.optimizer.gradient_accumulation_steps
        while len(self._tokens) < steps * micro:
            self.next_rows()
        return [sum(self._tokens[i * micro : (i + 1) * micro]) for i in range(steps)]

    def prepare(self) -> Queries:
        if not self._prepared:  # each step is a round here, and a round is prepared once
            yield from self._sampled(self._learner.prepare())
        self._prepared, self.step_began = True, time.perf_counter()

    def prepare_step(self) -> Queries:
        queries, reply, began, asked = self._learner.prepare_step(), None, time.perf_counter(), False
        with suppress(StopIteration):
            while True:
                query = queries.send(reply)
                asked = True
                reply = yield query
        self.asking_s.append(time.perf_counter() - began if asked else 0.0)

    def evaluate(self, split: Split) -> Queries:
        return (yield from self._sampled(self._learner.evaluate(split)))

    def _sampled(self, queries: Queries) -> Queries:
        reply, began = None, time.perf_counter()
        while True:
            try:
                query = queries.send(reply)
            except StopIteration as end:
                self.query_s += time.perf_counter() - began
                return end.value
            self.query_s += time.perf_counter() - began  # the learner's own code
            reply = yield from self._answered(query)
            began = time.perf_counter()

    def _answered(self, query: Complete | Read) -> Queries:
        """Answer a few prompts or rows, then more while there is time; return answers to all of them."""
        items: Sequence[Any] = query.prompts if isinstance(query, Complete) else query.rows
        sizes = [len(item.tokens) if isinstance(item, Row) else len(item) for item in items]
        order = sorted(range(len(items)), key=sizes.__getitem__)
        if not order:
            return []

        def tokens(places: Sequence[int]) -> int:
            return sum(sizes[i] for i in places)

        chosen, most = _spread(order, TRIAL_QUERIES), MOST_TOKENS_AT_ONCE * len(order) // tokens(order)
        answers, seconds = yield from self._timed(query, items, chosen)
        more, left = seconds / tokens(chosen), self._budget_s - seconds  # the former per further token
        while left > 0 and len(chosen) < len(order) and 3 * len(chosen) <= most:
            few, few_s, room = chosen, seconds, int(left / seconds * len(chosen))
            chosen = _spread(order, max(3 * len(chosen), min(room, most)))
            answers, seconds = yield from self._timed(query, items, chosen)
            left -= seconds
            mean = seconds / tokens(chosen)
            if tokens(chosen) > tokens(few):  # a decoding step takes hardly longer for many rows than for a few
                more = (seconds - few_s) / (tokens(chosen) - tokens(few))
            more = min(max(more, mean / 2), mean)
        self.query_s += seconds + more * (tokens(order) - tokens(chosen))
        self.asked, self.answered = self.asked + len(items), self.answered + len(chosen)
        found: dict[int, Any] = {}
        for rank, index in enumerate(order):  # both are sorted by length
            found[index] = _as_answer(answers[rank * len(chosen) // len(order)], items[index])
        return [found[i] for i in range(len(items))]

    def _timed(self, query: Complete | Read, items: Sequence[Any], places: list[int]) -> Queries:
        began, own = time.perf_counter(), [items[i] for i in places]
        if isinstance(query, Read):
            part: Complete | Read = replace(query, rows=own)
        else:
            part = replace(query, prompts=own, draws=[query.draws[i] for i in places] if query.draws else ())
        answers = yield part
        return answers, time.perf_counter() - began


def _spread(order: Sequence[int], count: int) -> list[int]:
    """Return at most `count` (at least one) of the places, evenly."""
    count = min(max(1, count), len(order))
    return [order[(2 * i + 1) * len(order) // (2 * count)] for i in range(count)]


def _as_answer(answer: Any, item: Any) -> Any:
    """Return an answer of the form that the item needs: a log-probability for each label of a row."""
    if isinstance(answer, Completion) or len(answer) == sum(item.labels):
        return answer
    return [sum(answer) / max(1, len(answer))] * sum(item.labels)


def measure(pair: Pair, seed: int, seconds: float, largest: Pair | None = None) -> dict[str, Any]:
    """Return the costs of a pair's default: `start_s`, `round_s` and in it `evaluation_s`, `peak_rss`, ...

    Where each question gets a model of its own, `test_question_s` is a round on a question of the test split, and
    `test_open_s` what comes before its first round.
    `checkpoint` (bytes) is that of `largest`: the default's after training, times how much larger it is before.
    """
    start = time.perf_counter()
    base = None
    if pair.learner.needs_base:
        from trainables.models.loading import load  # torch and transformers: a learner without a base may need neither

        base = load(pair.base)
    whole, share = pair, 1.0
    if whole.learner.per_example:
        pair = _of_few(whole, "search")
        share = len(pair.task.search()) / len(whole.task.search())
        largest = largest and _of_few(largest, "search")
    built, sampled = _sampling(pair.learner.build(base, pair.task, seed), base, seed, seconds * (1 - TRAINING))
    opened = time.perf_counter()
    try:
        untrained = checkpoint_bytes(built) if largest not in (None, pair) else 0
        costs = _sampled_round(built, sampled, seconds * TRAINING) if sampled else _whole_round(built)
        costs |= {
            "start_s": opened - start,
            "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "checkpoint": checkpoint_bytes(built),
        }
    finally:
        built.close()
    if largest is not None and untrained:
        costs["checkpoint"] *= _untrained_bytes(largest, base, seed) / untrained
    if whole.learner.per_example:
        costs |= {name: costs[name] / share for name in ("round_s", "evaluation_s", "checkpoint")}
        costs["measured"] = f"a whole round of {len(pair.task.search())} of {len(whole.task.search())} questions"
        costs |= _test_costs(_of_few(whole, "test"), base, seed)
    return costs


def _of_few(pair: Pair, split: Split) -> Pair:
    """Return the pair with a few questions of a split, evenly chosen, as its search split."""
    examples = pair.task.split(split)
    return replace(pair, task=pair.task.with_search([examples[place] for place in _spread(range(len(examples)), FEW)]))


def _test_costs(pair: Pair, base: Any, seed: int) -> dict[str, float]:
    start, count = time.perf_counter(), len(pair.task.search())
    built: Any = pair.learner.build(base, pair.task, seed)
    opened = time.perf_counter() - start
    try:
        return {"test_open_s": opened / count, "test_question_s": _whole_round(built)["round_s"] / count}
    finally:
        built.close()


def _untrained_bytes(pair: Pair, base: Any, seed: int) -> int:
    built, _ = _sampling(pair.learner.build(base, pair.task, seed), base, seed, 0.0)
    try:
        return checkpoint_bytes(built)
    finally:
        built.close()


def checkpoint_bytes(learner: Learner) -> int:
    """Return the size of a checkpoint: the learner's state, and the adapter that it saves beside it."""
    with tempfile.TemporaryDirectory() as folder:
        learner.save(folder)
        return len(learner.state()) + sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def _sampling(built: Any, base: Any, seed: int, seconds: float) -> tuple[Learner, SampledLearner | None]:
    """Return what trains a learner, and the learner if its queries are sampled, `seconds` for each.

    A learner that `base` is None for trains by itself.
    """
    if base is None:
        return built, None
    from trainables.packed.solo import Solo
    from trainables.training.standalone import StandaloneLearner

    if isinstance(built, StandaloneLearner):
        built.learner = sampled = SampledLearner(built.learner, seconds)
        return built, sampled
    if isinstance(built, Learner):
        return built, None
    sampled = SampledLearner(built, seconds)
    return Solo(base, sampled, seed), sampled


def _whole_round(learner: Learner) -> dict[str, Any]:
    start = time.perf_counter()
    trained = learner.round()
    start += trained.metrics.get("trunk_seconds", 0.0)  # what all models have in common is trained once
    evaluated = time.perf_counter()
    learner.evaluate()
    end = time.perf_counter()
    return {
        "round_s": end - start,
        "evaluation_s": end - evaluated,
        "trainable_parameters": trained.trainable_parameters,
        "measured": "a whole round and evaluation",
    }


def _sampled_round(learner: Learner, sampled: SampledLearner, seconds: float) -> dict[str, Any]:
    """Train until the time is up, scale up by tokens, and evaluate.

    The first step allocates memory. It does not count if a round has others, so at least two are taken. If the first
    asks something, steps are taken until another does.
    """
    until, steps_s = time.perf_counter() + seconds, list[float]()
    while not steps_s or (len(steps_s) < sampled.whole_round and _more(sampled.asking_s, until)):
        trained = learner.round()
        steps_s.append(time.perf_counter() - sampled.step_began - sampled.asking_s[-1])
    steps, counted = len(steps_s), steps_s[1:] or steps_s
    own = sampled.tokens_of_steps(max(steps, sampled.whole_round))
    train_s = sum(counted) * sum(own[: sampled.whole_round]) / sum(own[steps - len(counted) : steps])
    train_s += _asking(sampled.asking_s, sampled.whole_round)
    prepare_s, sampled.query_s = sampled.query_s, 0.0
    sampled.asked = sampled.answered = 0
    learner.evaluate()
    answered = f"{sampled.answered} of {sampled.asked} prompts and rows"
    return {
        "round_s": prepare_s + train_s + sampled.query_s,
        "evaluation_s": sampled.query_s,
        "trainable_parameters": trained.trainable_parameters,
        "measured": f"{steps} of {sampled.whole_round} steps, {answered}",
    }


def _more(asking_s: Sequence[float], until: float) -> bool:
    """Whether another step is to be measured: the second, one before whose end there is time, or one on the way from
    the first step that asked something to the next."""
    return len(asking_s) == 1 or time.perf_counter() < until or sum(one > 0 for one in asking_s) == 1


def _asking(asking_s: Sequence[float], whole_round: int) -> float:
    """Return the seconds that the queries before the steps of a round take: every so many steps ask as much.

    As of steps, the first does not count if there are others.
    """
    places = [place for place, one in enumerate(asking_s) if one]
    if not places:
        return 0.0
    every = places[1] - places[0] if len(places) > 1 else whole_round
    counted = places[1:] or places
    return sum(asking_s[place] for place in counted) / len(counted) * whole_round / every


if __name__ == "__main__":
    job: ProbeJob = pickle.load(sys.stdin.buffer)
    pairs = zip(job.pairs, job.largest, strict=True)
    print(json.dumps([measure(pair, job.seed, job.seconds, largest) for pair, largest in pairs]))
