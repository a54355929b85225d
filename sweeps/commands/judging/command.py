"""`espalier judge`: judges say which of two trials replies better. They see no names, and only the test split.

The replies already lie in the run's folder, because its finalists answered the test split. Nothing is generated again.
Each verdict is appended to `verdicts.jsonl` there. So the same command continues after an interruption, and a judge
that is added later answers only what it has not answered yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from sweeps.commands.endpoint.client import Endpoint
from sweeps.commands.judging.comparisons import Judge, judge_all
from sweeps.commands.judging.judges import LikelihoodJudge, LlmJudge
from sweeps.commands.judging.markdown_report import markdown_report
from sweeps.commands.judging.win_rates import ENOUGH
from sweeps.results.checkpoint_hash import checkpoint_hash
from sweeps.results.records import untouched_name
from sweeps.results.run_folder import Run
from sweeps.results.terminal import print
from sweeps.spec.open_run import check_no_links, open_run, trial_of
from sweeps.spec.trust import apply_trust, refuse_remote_code
from sweeps.tuning.recorder import hashes_of
from trainables.atomic import replace_file
from trainables.bad_input import BadInput, check_least

VERDICTS, REPORT = "verdicts.jsonl", "judged.md"
LIKELIHOOD = "likelihood"


@dataclass(frozen=True)
class JudgeOptions:
    """The flags of `espalier judge`."""

    judge: tuple[str, ...] = (LIKELIHOOD,)  # likelihood, or the address of an OpenAI-compatible endpoint, or several
    model: tuple[str, ...] = ()  # the model at each endpoint; --judge has the same order
    trials: tuple[str, ...] = ("best", "untouched")  # best, untouched (the base), or a finalist's number or id
    base: str | None = None  # the model whose likelihoods the likelihood judge compares; none: the sweep's own base
    margin: float = 0.05  # nats per token; the likelihood judge calls a smaller difference a tie
    # the environment variable with the key of each endpoint, in the order of --model; none: OPENAI_API_KEY for
    # api.openai.com, and no key for others
    key_variable: tuple[str, ...] = ()
    temperature: float = 0.0  # sampling temperature of an endpoint's answers
    max_tokens: int = 1024  # tokens in an endpoint's answer, at most
    price_in: float | None = None  # dollars per million tokens of prompts
    price_out: float | None = None  # dollars per million tokens of answers
    max_cost: float | None = None  # the most that may be spent on each model, in dollars
    trust: tuple[str, ...] = ()  # folder: the sweep's own base may run code of its repository


@dataclass(frozen=True)
class Replies:
    """The replies of one checkpoint. `items` has a row per question with `key`, `prompt` and `completion`, in order."""

    checkpoint: str  # a hash of its weights, or the untouched base's name
    name: str
    items: pd.DataFrame


def judge(run: Path, /, options: Annotated[JudgeOptions, tyro.conf.arg(name="")] = JudgeOptions()) -> None:
    """Have judges compare the replies of finalists of runs/X to the test split, in both orders, and say who wins.

    Args:
        run: the sweep's folder
    """
    apply_trust(options.trust)
    check_least(options, {"margin": 0, "temperature": 0, "max_tokens": 1})
    found = open_run(run)
    check_no_links(found.folder)
    compared = _compared_replies(found, options)
    prompts = prompts_by_item(compared)
    if len(prompts) < ENOUGH:
        print(f"only {len(prompts)} items: at least {ENOUGH} are needed for a verdict to mean much", flush=True)
    own_base = base_of_best(found)
    if LIKELIHOOD in options.judge and f"{own_base}:".startswith(f"{options.base or own_base}:"):
        print(
            f"the likelihood judge uses {own_base}, the trials' own base: it prefers what that model would write, and"
            " cannot tell whether a reply is right or good; add another judge, or give another --base",
            flush=True,
        )
    texts = {one.checkpoint: one.items.completion.tolist() for one in compared}
    try:
        with open_judges(options, own_base, found.folder) as judges:
            verdicts = judge_all(judges, texts, prompts, found.folder / VERDICTS)
        text = markdown_report(verdicts, {one.checkpoint: one.name for one in compared})
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(str(error)) from error
    text = f"# {found.facts['sweep']['name']}: replies to {len(prompts)} questions of the test split, judged\n\n{text}"
    replace_file(found.folder / REPORT, text.encode())
    print(f"{text}\nverdicts: {found.folder / VERDICTS}; this page: {found.folder / REPORT}")


def _compared_replies(run: Run, options: JudgeOptions) -> list[Replies]:
    """Return the replies of each checkpoint that `--trials` names, once. Raise BadInput for fewer than two."""
    named = [read_replies(run, which) for which in dict.fromkeys(options.trials)]
    unique = list({one.checkpoint: one for one in named}.values())
    if len(unique) < 2:
        raise BadInput(
            f"--trials {' '.join(options.trials)}:",
            "one checkpoint has nothing to be compared with",
            "name two or more",
        )
    return unique


def read_replies(run: Run, which: str) -> Replies:
    """Return the replies of the best finalist's untouched base, or of a finalist with its first seed.

    Raise BadInput if it did not answer the test split, or did not answer in text.
    """
    answers = run.answers
    if answers.empty:
        raise BadInput(run.folder, "has no answers to the test split", "run the sweep with --finalists 1 or more")
    trial = None if which == "untouched" else trial_of(run, which)
    base = _best_base(run)
    own = answers.name == untouched_name(base) if trial is None else answers.trial_id == trial.trial_id
    rows = answers[own & (answers.seed == 0)].sort_values("item")
    if rows.empty:
        names = [one.name for one in run.finals]
        raise BadInput(f"--trials {which}:", "it did not answer the test split", f"these did: {', '.join(names)}")
    if rows.completion.isna().any():
        raise BadInput(f"--trials {which}:", "its answers are not text, so they cannot be judged")
    if trial is None:
        return Replies(base_of_best(run), untouched_name(base), rows)
    name = f"trial {trial.number}"
    return Replies(_weights_hash(run, trial.trial_id, name), name, rows)


def _best_base(run: Run) -> str:
    """Return the label of the best finalist's base; empty where the sweep has one base."""
    best = run.confirmation.best_trained
    return best.base if best else ""


def base_of_best(run: Run) -> str:
    """Return the base of the best finalist, in a sweep of several; else that of the first pair."""
    pairs = run.facts["sweep"]["pairs"]
    own = [pair for pair in pairs if pair.get("label", "") == _best_base(run)]
    return str((own or pairs)[0]["base"])


def _weights_hash(run: Run, trial_id: str, name: str) -> str:
    """Return the hash of the first seed's weights: of best/ itself, or the one recorded when they were trained."""
    if run.trial("best").trial_id == trial_id:
        return checkpoint_hash(run.best)
    known = hashes_of(run.folder).get(trial_id)
    if known is None:
        raise BadInput(f"{name}:", f"the hash of its weights is not in {run.folder}", "judge best and untouched")
    return known


def prompts_by_item(compared: Sequence[Replies]) -> Mapping[str, str]:
    """Return item -> prompt. Raise BadInput if the checkpoints answered different questions."""
    prompts = [dict(zip(_item_names(one.items), one.items.prompt, strict=True)) for one in compared]
    if any(other != prompts[0] for other in prompts):
        raise BadInput(f"{compared[0].name} and others", "answered different questions", "judge trials of one task")
    return prompts[0]


def _item_names(items: pd.DataFrame) -> list[str]:
    """Return a name for each question. It holds the question's place, because several questions may share a key."""
    return [f"{item} {key}" for item, key in zip(items["item"], items.key, strict=True)]


@contextmanager
def open_judges(options: JudgeOptions, own_base: str, folder: Path) -> Iterator[list[Judge]]:
    """Open the judges that `--judge` names, and close them afterwards. The answers of endpoints are kept in `folder`.

    Raise BadInput if there are not as many models, or key variables, as endpoints.
    """
    addresses = [name for name in options.judge if name != LIKELIHOOD]
    if len(addresses) != len(options.model):
        raise BadInput(
            "--judge",
            f"names {len(addresses)} endpoints and --model {len(options.model)} models",
            "give an address such as http://localhost:8000/v1 and a model for each, or --judge likelihood alone",
        )
    if options.key_variable and len(options.key_variable) != len(addresses):
        raise BadInput(
            "--key-variable",
            f"names {len(options.key_variable)} variables for {len(addresses)} endpoints",
            "name one for each endpoint, because a key goes to its own endpoint only",
        )
    endpoints = zip(options.model, options.key_variable or [None] * len(addresses), strict=True)
    with ExitStack() as opened:
        judges: list[Judge] = []
        for name in options.judge:
            if name == LIKELIHOOD:
                from trainables.models.loading import load  # imports torch
                from trainables.packed.host import Host

                if options.base is None:
                    refuse_remote_code(own_base)
                try:
                    host = Host(load(options.base or own_base))
                except ValueError as error:  # an unknown base
                    raise BadInput(str(error)) from error
                opened.callback(host.shut)
                judges.append(LikelihoodJudge(host, options.margin))
            else:
                model, key_variable = next(endpoints)
                endpoint = Endpoint(
                    name, model, folder, key_variable, options.temperature, options.max_tokens,
                    options.price_in, options.price_out, options.max_cost,
                )  # fmt: skip
                opened.callback(endpoint.close)
                judges.append(LlmJudge(endpoint))
        yield judges
