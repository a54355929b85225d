"""Small ARC tasks with a planted rule, a small base that reads grids, and quick settings for `lora_ttt`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.support.arc_files import ids, task, write
from tests.support.miniatures import model
from trainables.learners.arc.lora_ttt.learner import LoraTttConfig
from trainables.learners.arc.lora_ttt.task_learner import TaskLearner
from trainables.learners.arc.lora_ttt.text import GridTokenizer
from trainables.models.loading import Base
from trainables.tasks.arc.task import ArcTask, Puzzle

# A prompt holds two demonstrations, as training rows do: so small a model counts how far away the question is.
QUICK = LoraTttConfig(
    learning_rate=1e-2, r=8, steps_per_round=40, permute_colours=False, votes=3, tasks_at_once=2, max_length=60
)
SHORT = replace(QUICK, steps_per_round=2)


def tokenizer() -> PreTrainedTokenizerFast:
    """A token per character, so that grids come back as they went in; a template that adds nothing."""
    marks = ["<pad>", "<end>", "\n", *"IO0123456789"]
    inner = Tokenizer(models.WordLevel({mark: i for i, mark in enumerate(marks)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>")
    made.chat_template = "{{ messages[0]['content'] }}{% if add_generation_prompt %}{{ '\\n' }}{% endif %}"
    return made


INPUTS = [[[0, 1], [1, 0]], [[1, 1], [0, 3]], [[3, 0], [0, 1]], [[0, 3], [1, 1]]]


def grid_base(family: str = "qwen2") -> Base:
    return Base("mini-grids", model(family), tokenizer())


def painted(colour: int, outputs: Any = None) -> dict[str, Any]:
    """Every cell becomes this colour, in grids of 2x2."""
    pairs = [(rows, [[colour] * 2] * 2) for rows in INPUTS]
    return task(pairs[:3], [(INPUTS[3], outputs or pairs[3][1])])


def arc(folder: Path, search: int = 3, more: dict[str, Any] | None = None, **outputs: Any) -> ArcTask:
    """Tasks of the search split paint in 2, 3, 4 ...; the one of the test split in 7; those to train on in 8."""
    tasks = {key: painted(2 + i, **outputs) for i, key in enumerate(ids("search", search))}
    tasks |= {ids("test", 1)[0]: painted(7, **outputs)} | {key: painted(8) for key in ids("train", 2)}
    return ArcTask(data=write(folder, tasks | (more or {})), same_size=False)


def task_learner(base: Base, seen: Puzzle, limit: int = 200, **changes: Any) -> TaskLearner:
    return TaskLearner(replace(SHORT, **changes), GridTokenizer(base.tokenizer, limit), [seen], seed=0, steps=1)
