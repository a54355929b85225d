"""Tasks of lm-eval on local files, which builtin:tiny answers partly right."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from trainables.tasks.arena.task import ArenaTask

COUNT = 50
EXAMPLES = ArenaTask(train_size=16, search_size=COUNT, test_size=5).search()
DATA = {
    "dataset_path": "json",
    "test_split": "test",
    "metadata": {"version": 1},
}
CHOICES = {  # a trailing blank, which lm-eval moves from the question to the choice
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{prompt}}\nAnswer: ",
    "target_delimiter": "",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
GENERATE = {
    "output_type": "generate_until",
    "doc_to_text": "Question: {{prompt}}\nAnswer:",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n", "."], "max_gen_toks": 40, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "ignore_case": True}],
    "filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
}
LIKELIHOOD = {
    "output_type": "loglikelihood",
    "doc_to_text": "Question: {{prompt}}\nAnswer:",
    "doc_to_target": " {{answer}}",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
}
ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}],
}
TASKS = {"own_choice": CHOICES, "own_generate": GENERATE, "own_likelihood": LIKELIHOOD, "own_rolling": ROLLING}


def write_tasks(folder: Path, **changed: dict[str, object]) -> Path:
    """Write all tasks and their data into a folder. `changed`: by task, what its YAML file has otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "questions.jsonl"
    data.write_text("".join(json.dumps(_row(i)) + "\n" for i in range(COUNT)))
    for name, task in TASKS.items():
        kept = {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")}
        content = {"task": name, **DATA, "dataset_kwargs": kept, **task}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content | changed.get(name, {}), sort_keys=False))
    group = {"group": "own_group", "task": ["own_choice", "own_likelihood"]}
    group["aggregate_metric_list"] = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    (folder / "own_group.yaml").write_text(yaml.safe_dump(group))
    return folder


def _row(i: int) -> dict[str, object]:
    example = EXAMPLES[i]
    others = sorted({one.answer for one in EXAMPLES} - {example.answer})
    choices = sorted([example.answer, others[i % len(others)], others[(3 * i + 1) % len(others)]])
    long = " ".join(one.prompt for one in EXAMPLES[: 1 + 3 * (i % 8)])  # the longest exceed the base's context
    return {
        "prompt": example.prompt,
        "answer": example.answer,
        "choices": choices,
        "label": choices.index(example.answer),
        "text": long,
    }
