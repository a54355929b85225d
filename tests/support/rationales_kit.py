"""A task of 24 questions, a teacher that is always right, and the lines that it leaves."""

from __future__ import annotations

import json

from trainables.tasks.strategyqa.task import StrategyQaTask

TASK = StrategyQaTask(train_size=24)


GOLD = {e.prompt: e.answer for e in TASK.train()}


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def knows(messages):
    """A teacher that is always right."""
    return f"It follows from what is told. So the answer is {GOLD[messages[-1]['content']]}."
