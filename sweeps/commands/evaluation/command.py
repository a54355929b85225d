"""`espalier evaluate`: asks the winner of a sweep and its untouched base the tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sweeps.commands.evaluation.differences import Difference, compare
from sweeps.commands.winner import Winner, open_winner
from sweeps.results.terminal import print
from sweeps.spec.sweep import BadInput
from sweeps.spec.trust import apply_trust
from trainables.atomic import replace_file

if TYPE_CHECKING:
    from sweeps.commands.evaluation.tasks import Tasks

NOT_INSTALLED = "lm-eval, which has the tasks, is not installed; run `make lm-eval`"
Results = Mapping[str, Any]  # as lm-eval gives them


@dataclass(frozen=True)
class EvaluateOptions:
    """The flags of `espalier evaluate`."""

    tasks: tuple[str, ...]  # names of tasks, groups or tags of lm-eval, also with *
    include_path: Path | None = None  # a folder with tasks of your own as YAML files; their code runs
    limit: int | None = None  # questions of each task: the first ones; none: all
    num_fewshot: int | None = None  # examples before each question; none: each task's own number
    apply_chat_template: bool = False  # ask in the base's chat template
    output: Path | None = None  # a new JSON file for the results of each question
    base: str | None = None  # where the base is, if it is no longer where it was
    # files or modules with learners and tasks that are not Espalier's; folder: the base may run its own code
    trust: tuple[str, ...] = ()


def evaluate(run: Path, /, options: Annotated[EvaluateOptions, tyro.conf.arg(name="")]) -> None:
    """Ask the winner of runs/X and its untouched base the tasks of lm-eval, and compare them question by question.

    Args:
        run: the sweep's folder
    """
    apply_trust(options.trust)
    _check(options)
    try:
        from sweeps.commands.evaluation.tasks import Tasks
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        raise BadInput(NOT_INSTALLED) from error
    winner = open_winner(run, options.base)
    names = [name for given in options.tasks for name in given.split(",") if name]
    tasks = Tasks(names, options.include_path, options.num_fewshot)
    trained, untouched = _asked(winner, tasks, options)
    found = differences(tasks, untouched, trained)
    print(table(found))
    print("difference: winner minus untouched base, with its 95 % interval, paired by question; p: exact or randomised")
    if options.output is not None:
        replace_file(options.output, _as_json(winner, found, untouched, trained))
        print(f"each question: {options.output}")


def _check(options: EvaluateOptions) -> None:
    if options.limit is not None and options.limit < 1:
        raise BadInput(f"--limit {options.limit}: give 1 or more")
    if options.num_fewshot is not None and options.num_fewshot < 0:
        raise BadInput(f"--num-fewshot {options.num_fewshot}: give 0 or more")
    if options.output is not None and (options.output.exists() or not options.output.parent.is_dir()):
        raise BadInput(f"--output {options.output}: give a new file in a folder that exists")


def _asked(winner: Winner, tasks: Tasks, options: EvaluateOptions) -> tuple[Results, Results]:
    """Return the results of the trained model and of the untouched base. One model is in memory, if it is an adapter's.

    Raise BadInput for a base, an adapter or a question with a fault.
    """
    from sweeps.commands.evaluation.host_lm import CannotAsk, HostLM
    from trainables.models.loading import load
    from trainables.packed.saved_model import HostedModel, open_trained, open_untouched

    try:
        base = load(winner.base)
        load.cache_clear()  # the base is changed by some adapters
        trained = open_trained(base, winner.folder)
    except ValueError as error:  # of a base or an adapter; they cannot import BadInput
        raise BadInput(str(error)) from error
    if options.apply_chat_template and not base.tokenizer.chat_template:
        raise BadInput(f"--apply-chat-template: base {winner.base!r} has no chat template; leave it out")
    if base.tokenizer.chat_template and not options.apply_chat_template:
        print("the base has a chat template, in which the winner was trained; --apply-chat-template asks in it")
    virtual = trained.num_virtual_tokens

    def ask(model: HostedModel, name: str) -> Results:
        try:
            return tasks.ask(HostLM(model, name, virtual), options.limit, options.apply_chat_template)
        except CannotAsk as error:
            raise BadInput(str(error)) from error
        finally:
            model.host.shut()

    return ask(trained, winner.name), ask(open_untouched(base), "untouched base")


def differences(tasks: Tasks, untouched: Results, trained: Results) -> list[Difference]:
    """Return a difference for each metric of each task, and of each group that lm-eval makes a score for."""
    from sweeps.commands.evaluation.tasks import values_of

    found = []
    for task in tasks.tasks:
        after = {(metric, by): values for metric, by, values in values_of(trained, task)}
        for metric, by, values in values_of(untouched, task):
            if (metric, by) in after:
                aggregate = tasks.aggregate(task, metric)
                found.append(compare(task, _named(metric, by), values, after[metric, by], aggregate))
    return found


def _named(metric: str, by: str) -> str:
    return metric if by == "none" else f"{metric} ({by})"


def table(found: Sequence[Difference]) -> str:
    """Return a markdown table with a row for each metric."""
    head = ("task", "metric", "untouched", "winner", "difference", "95 % interval", "p", "n")
    rows = [head, ("---",) * len(head), *(_row(one) for one in found)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(one: Difference) -> tuple[str, ...]:
    def share(value: float) -> str:
        return f"{100 * value:.1f} %"

    def plain(value: float) -> str:
        return f"{value:.4g}"

    show: Callable[[float], str] = share if one.is_share else plain
    difference = f"{100 * one.difference:+.1f}" if one.is_share else f"{one.difference:+.4g}"
    low, high = (f"{100 * bound:.1f}" if one.is_share else plain(bound) for bound in one.interval)
    p = "-" if one.p is None else f"{one.p:.2g}"
    return (
        one.task,
        one.metric,
        show(one.untouched),
        show(one.trained),
        difference,
        f"{low} to {high}",
        p,
        str(one.n),
    )


def _as_json(winner: Winner, found: Sequence[Difference], untouched: Results, trained: Results) -> bytes:
    """Return the differences, and what both models said to each question."""
    from lm_eval.utils import handle_non_serializable

    samples = {
        task: [
            {**_question(one), "untouched": _said(one), "winner": _said(other)}
            for one, other in zip(own, trained["samples"][task], strict=True)
        ]
        for task, own in untouched["samples"].items()
    }
    content = {
        "run": str(winner.run.folder),
        "trial": winner.record.number,
        "learner": winner.record.learner,
        "base": winner.base,
        "versions": untouched["versions"],
        "n_shot": untouched["n-shot"],
        "differences": [asdict(one) for one in found],
        "questions": samples,
    }
    return (json.dumps(content, indent=2, ensure_ascii=False, default=handle_non_serializable) + "\n").encode()


def _question(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {name: sample[name] for name in ("doc_id", "filter", "doc", "target", "arguments")}


def _said(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {"responses": sample["filtered_resps"]} | {metric: sample[metric] for metric in sample["metrics"]}
