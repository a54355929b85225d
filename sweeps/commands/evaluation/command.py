"""`espalier evaluate`: asks the winner of a sweep and its untouched base the tasks of lm-evaluation-harness."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from sweeps.commands.evaluation.differences import Difference, compare, values_of
from sweeps.commands.winner import Winner, open_winner
from sweeps.results.terminal import print
from sweeps.spec.trust import apply_trust
from trainables.atomic import replace_file
from trainables.bad_input import BadInput

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
    tasks = Tasks(_names(options), options.include_path, options.num_fewshot)
    trained, untouched = _asked(winner, tasks, options)
    found = differences(tasks, untouched, trained)
    print(table(found))
    print("difference: winner minus untouched base, with its 95 % interval, paired by question; p: exact or randomised")
    if options.output is not None:
        replace_file(options.output, _as_json(winner, found, untouched, trained))
        print(f"each question: {options.output}")


def _names(options: EvaluateOptions) -> list[str]:
    return [name for given in options.tasks for name in given.split(",") if name]


def _check(options: EvaluateOptions) -> None:
    if not _names(options):
        raise BadInput("--tasks", "names no task", "give one or more, as in --tasks arc_easy,piqa")
    if options.limit is not None and options.limit < 1:
        raise BadInput(f"--limit {options.limit}:", "give 1 or more")
    if options.num_fewshot is not None and options.num_fewshot < 0:
        raise BadInput(f"--num-fewshot {options.num_fewshot}:", "give 0 or more")
    if options.output is not None and (options.output.exists() or not options.output.parent.is_dir()):
        raise BadInput(f"--output {options.output}:", "give a new file in a folder that exists")


def _asked(winner: Winner, tasks: Tasks, options: EvaluateOptions) -> tuple[Results, Results]:
    """Return the results of the trained model and of the untouched base. Both share one model, unless all of its
    weights were trained.

    Raise BadInput for a base, an adapter or a question with a fault.
    """
    from sweeps.commands.evaluation.host_lm import CannotAsk, HostLM
    from trainables.models.loading import load
    from trainables.packed.saved_model import HostedModel, open_trained, open_untouched

    try:
        base = load(winner.base)
        load.cache_clear()  # the base is changed by some adapters
        trained = open_trained(base, winner.folder)
    except ValueError as error:  # of a base or an adapter
        raise BadInput(str(error)) from error
    if options.apply_chat_template and not base.tokenizer.chat_template:
        raise BadInput("--apply-chat-template:", f"base {winner.base!r} has no chat template", "leave it out")
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
    """Return a difference for each metric of each task, and of each group of which lm-eval makes a score."""
    found = []
    for task in tasks.tasks:
        before, after = values_of(untouched, [task]), values_of(trained, [task])
        for metric, by in _in_both(before, after):
            both, aggregate = (before[metric, by], after[metric, by]), tasks.aggregate(task, metric)
            found.append(compare(task, _named(metric, by), *both, aggregate))
    for group, members in tasks.members.items():
        before, after = values_of(untouched, members), values_of(trained, members)
        for metric, by in _in_both(before, after):
            scores = [one["results"][group].get(f"{metric},{by}") for one in (untouched, trained)]
            if None not in scores:
                found.append(_of_group(group, _named(metric, by), before[metric, by], after[metric, by], scores))
    return found


def _in_both(before: Mapping[Any, Mapping[Any, Any]], after: Mapping[Any, Mapping[Any, Any]]) -> list[tuple[str, str]]:
    """Return the metrics with a question for which both models have a value."""
    return [one for one in before if before[one].keys() & after.get(one, {}).keys()]


def _of_group(
    group: str, metric: str, untouched: Mapping[Any, Any], trained: Mapping[Any, Any], scores: Sequence[float]
) -> Difference:
    """Compare scores of a group: by all of its questions where the score is their mean, else without an interval."""
    if all(isinstance(value, Real) for value in (*untouched.values(), *trained.values())):
        pooled = compare(group, metric, untouched, trained, None)
        if all(map(math.isclose, scores, (pooled.untouched, pooled.trained))):
            return pooled
    before, after = scores
    return Difference(group, metric, before, after, after - before, None, None, len(untouched))


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
    interval = " to ".join(f"{100 * bound:.1f}" if one.is_share else plain(bound) for bound in one.interval or ())
    p = "-" if one.p is None else f"{one.p:.2g}"
    return (
        one.task,
        one.metric,
        show(one.untouched),
        show(one.trained),
        difference,
        interval or "-",
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
