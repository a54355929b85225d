"""Find tasks of lm-evaluation-harness by name, load their questions, and ask them."""

from __future__ import annotations

import difflib
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.metrics import mean, nanmean
from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager

from sweeps.commands.evaluation.host_lm import HostLM, check_greedy
from sweeps.results.terminal import print
from trainables.bad_input import BadInput
from trainables.models.base_fault import first_line

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # what it warns of is told here, or is how it always works


class Tasks:
    """Loaded tasks of lm-eval, and groups of them, by name."""

    def __init__(self, names: Sequence[str], include_path: Path | None, num_fewshot: int | None) -> None:
        """Load tasks, groups and tags by name, also with `*`. `num_fewshot`: examples before each question; None: the
        tasks' own number.

        Raise BadInput, in one line, for unknown names, data that is not there, and what greedy answers cannot serve.
        """
        self.tasks: dict[str, Any] = {}
        self.groups: dict[str, Any] = {}
        manager, chosen = _find(names, include_path)
        for name in chosen:
            try:
                found = manager.load([name])
            except Exception as error:  # of the hub, of data, and of code that a task brings along
                raise BadInput(_not_loaded(manager, name, error)) from error
            self.tasks |= found["tasks"]
            self.groups |= found.get("groups", {})
        for name, task in self.tasks.items():
            _check(name, task)
            _set_examples(name, task, num_fewshot)

    def ask(self, model: HostLM, limit: int | None, chat: bool) -> Mapping[str, Any]:
        """Return lm-eval's results, with those of each question; the first `limit` of each task. `chat`: in the base's
        chat template.

        Examples before questions are drawn with lm-eval's own seeds, so that all models see the same ones. Raise
        CannotAsk.
        """
        random.seed(DEFAULT_RANDOM_SEED)
        np.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(DEFAULT_OTHER_SEED)
        for task in self.tasks.values():
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        return evaluate(
            lm=model,
            task_dict={"tasks": self.tasks, "groups": self.groups},
            limit=limit,
            bootstrap_iters=0,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )

    @property
    def members(self) -> dict[str, list[str]]:
        """The tasks of each group, also those of the groups in it."""
        return {name: [task.task_name for task in group.get_all_tasks()] for name, group in self.groups.items()}

    def aggregate(self, task: str, metric: str) -> Any:
        """Return the function that makes a metric of the values of its questions; None for their mean."""
        found = self.tasks[task].aggregation().get(metric, mean)
        return None if found in (mean, nanmean) else found


def _find(names: Sequence[str], include_path: Path | None) -> tuple[TaskManager, list[str]]:
    """Return the index of tasks and the names in it. The index of lm-eval's own tasks, some 15,000 files, is only made
    if `include_path` does not have them all."""
    if include_path is not None and not include_path.is_dir():
        raise BadInput(f"--include-path {include_path}", "is no folder", "give one with tasks as YAML files")
    own = TaskManager(include_path=str(include_path), include_defaults=False) if include_path else None
    if own and all(own.match_tasks([name]) for name in names):
        return own, _matching(own, names)
    print("reading the list of lm-eval's tasks ...", flush=True)
    manager = TaskManager(include_path=str(include_path) if include_path else None)
    for name in names:
        if not manager.match_tasks([name]):
            near = difflib.get_close_matches(name, manager.all_tasks, 3) or ["(none has a similar name)"]
            raise BadInput(
                f"--tasks {name}:",
                "lm-eval has no such task",
                f"the nearest names: {', '.join(near)}; --include-path DIR adds tasks of your own",
            )
    return manager, _matching(manager, names)


def _matching(manager: TaskManager, names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(one for name in names for one in manager.match_tasks([name])))


def _not_loaded(manager: TaskManager, name: str, error: Exception) -> str:
    config = manager.task_index[name].cfg or {}
    parts = [str(config[part]) for part in ("dataset_path", "dataset_name") if config.get(part)]
    data = f"its data ({' '.join(parts)})" if parts else "it"
    return (
        f"--tasks {name}: {data} cannot be loaded ({first_line(error)[:200]}); where there is no network, load it once"
        " where there is one and copy the cache (HF_HOME), or give tasks on local files with --include-path"
    )


def _check(name: str, task: Any) -> None:
    """Raise BadInput for a task that runs generated code, shows pictures, or samples."""
    if getattr(task, "UNSAFE_CODE", False):
        raise BadInput(
            f"--tasks {name}:", "it runs code that the model writes, which this command does not", "leave it out"
        )
    if getattr(task, "MULTIMODAL", False):
        raise BadInput(f"--tasks {name}:", "it asks about pictures or sound, and the models read text", "leave it out")
    if task.OUTPUT_TYPE != "generate_until":
        return
    try:
        check_greedy(task.config.generation_kwargs or {})
    except ValueError as error:
        raise BadInput(f"--tasks {name}:", str(error), "leave it out") from error


def _set_examples(name: str, task: Any, num_fewshot: int | None) -> None:
    """Set the number of examples before each question, by lm-eval's rule: a task that sets 0 keeps it."""
    own = task.get_config("num_fewshot")
    if num_fewshot is None:
        task.set_config(key="num_fewshot", value=own or 0)
    elif own == 0 and num_fewshot:
        print(f"{name} is always asked without examples; --num-fewshot changes nothing there", flush=True)
    else:
        _check_enough(name, task, num_fewshot)
        task.set_config(key="num_fewshot", value=num_fewshot)


def _check_enough(name: str, task: Any, wanted: int) -> None:
    """Raise BadInput if a task has fewer examples. Where they are of the split that is asked, each question leaves out
    itself."""
    splits = task.config
    asked = splits.test_split or splits.validation_split
    shown = splits.fewshot_split or splits.training_split or splits.validation_split or asked
    most = len(list(task.fewshot_docs())) - (shown == asked) if wanted else 0
    if wanted > most:
        raise BadInput(f"--num-fewshot {wanted}:", f"{name} has {most} examples to show", "give fewer")
