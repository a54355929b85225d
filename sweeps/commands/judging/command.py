"""`espalier judge`: which of two trials replies better, by judges that see no names, on the test split of a sweep.

The replies lie in the run's folder since its finalists were asked (`results/run.py`), so nothing is generated again.
Verdicts go to `verdicts.jsonl` there, one by one: the same command goes on after an interruption, and a further judge
is only asked for its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sweeps.commands.endpoint.client import Endpoint
from sweeps.commands.judging.comparisons import Judge, judge_all
from sweeps.commands.judging.findings import judged
from sweeps.commands.judging.judges import LikelihoodJudge, LlmJudge
from sweeps.commands.judging.win_rates import ENOUGH
from sweeps.results.checkpoint_hash import checkpoint_hash
from sweeps.results.records import UNTOUCHED
from sweeps.results.run_folder import Run
from sweeps.spec.open_run import open_run, trial_of
from sweeps.spec.sweep import BadInput
from sweeps.tuning.recorder import hashes_of
from trainables.atomic import replace_file

VERDICTS, REPORT = "verdicts.jsonl", "judged.md"
LIKELIHOOD = "likelihood"


@dataclass(frozen=True)
class Replies:
    """What one checkpoint said. `items`: a row per question, with `key`, `prompt` and `completion`, in their order."""

    checkpoint: str  # a hash of its weights, or the untouched base's name
    name: str
    items: pd.DataFrame


def judge(
    run: Path,
    /,
    judge: tuple[str, ...] = (LIKELIHOOD,),
    model: tuple[str, ...] = (),
    trials: tuple[str, ...] = ("best", "untouched"),
    base: str | None = None,
    margin: float = 0.05,
    key_variable: str = "OPENAI_API_KEY",
    temperature: float = 0.0,
    max_tokens: int = 1024,
    price_in: float | None = None,
    price_out: float | None = None,
    max_cost: float | None = None,
) -> None:
    """Have judges compare the replies of finalists of runs/X to the test split, in both orders, and say who wins.

    Args:
        run: the sweep's folder
        judge: likelihood, or the address of an OpenAI-compatible endpoint, or several of either
        model: of each endpoint, in the same order
        trials: best, untouched (the base), or a finalist's number or id
        base: by which the likelihood judge reads; none: the sweep's own
        margin: what is a tie to the likelihood judge, in nats per token
        key_variable: the environment variable with an endpoint's key
        temperature: of an endpoint's answers
        max_tokens: of an endpoint's answers
        price_in: dollars per million tokens of prompts
        price_out: dollars per million tokens of answers
        max_cost: dollars that are spent at most with each model
    """
    left = open_run(run)
    said = [replies(left, which) for which in dict.fromkeys(trials)]
    said = list({one.checkpoint: one for one in said}.values())
    if len(said) < 2:
        raise BadInput(f"--trials {' '.join(trials)}: one checkpoint has nothing to be compared with; name two or more")
    prompts = asked(said)
    if len(prompts) < ENOUGH:
        print(f"only {len(prompts)} items: at least {ENOUGH} are needed for a verdict to mean much", flush=True)
    own = base_of(left)
    if LIKELIHOOD in judge and base in (None, own):
        print(
            f"the likelihood judge reads by {own}, the trials' own base: it prefers what that would say, and knows"
            " nothing of right or good; ask another judge too, or give another --base",
            flush=True,
        )
    endpoints = (key_variable, temperature, max_tokens, price_in, price_out, max_cost)
    texts = {one.checkpoint: one.items.completion.tolist() for one in said}
    try:
        with judges_of(judge, model, base or own, margin, left.folder, endpoints) as judges:
            verdicts = judge_all(judges, texts, prompts, left.folder / VERDICTS)
        text = judged(verdicts, {one.checkpoint: one.name for one in said})
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(str(error)) from error
    text = f"# {left.facts['sweep']['name']}: replies to {len(prompts)} questions of the test split, judged\n\n{text}"
    replace_file(left.folder / REPORT, text.encode())
    print(f"{text}\nverdicts: {left.folder / VERDICTS}; this page: {left.folder / REPORT}")


def replies(run: Run, which: str) -> Replies:
    """What a finalist, with the first of its seeds, or the untouched base said. BadInput where it was not asked."""
    answers = run.answers
    if answers.empty:
        raise BadInput(f"{run.folder} has no finalists, so nobody was asked the test split; run it with --finalists 1")
    trial = None if which == "untouched" else trial_of(run, which)
    asked = answers.name == UNTOUCHED if trial is None else answers.trial_id == trial.trial_id
    rows = answers[asked & (answers.seed == 0)].sort_values("item")
    if rows.empty:
        names = [one.name for one in run.finals]
        raise BadInput(f"--trials {which}: it was not asked the test split; who was: {', '.join(names)}")
    if rows.completion.isna().any():
        raise BadInput(f"--trials {which}: it says nothing in words that could be judged")
    if trial is None:
        return Replies(base_of(run), UNTOUCHED, rows)
    name = f"trial {trial.number}"
    return Replies(_checkpoint(run, trial.trial_id, name), name, rows)


def base_of(run: Run) -> str:
    """What the first pair is trained on."""
    return str(run.facts["sweep"]["pairs"][0]["base"])


def _checkpoint(run: Run, trial_id: str, name: str) -> str:
    """The hash of the first seed's weights: of best/ itself, or as it was when they were at hand."""
    if run.trial("best").trial_id == trial_id:
        return checkpoint_hash(run.best)
    known = hashes_of(run.folder).get(trial_id)
    if known is None:
        raise BadInput(f"{name}: the hash of its weights is not in {run.folder}; judge best and untouched")
    return known


def asked(said: Sequence[Replies]) -> Mapping[str, str]:
    """Item -> prompt; BadInput where not all were asked the same."""
    prompts = [dict(zip(_names(one.items), one.items.prompt, strict=True)) for one in said]
    if any(other != prompts[0] for other in prompts):
        raise BadInput(f"{said[0].name} and others were asked different questions; judge trials of one task")
    return prompts[0]


def _names(items: pd.DataFrame) -> list[str]:
    """Of questions: their places too, as several may share a key."""
    return [f"{item} {key}" for item, key in zip(items["item"], items.key, strict=True)]


@contextmanager
def judges_of(
    names: Sequence[str], models: Sequence[str], base: str, margin: float, folder: Path, of_endpoints: tuple
) -> Iterator[list[Judge]]:
    """Opened, and closed afterwards. BadInput where addresses and models do not go together."""
    addresses = [name for name in names if name != LIKELIHOOD]
    if len(addresses) != len(models):
        raise BadInput(
            f"--judge names {len(addresses)} endpoints and --model {len(models)} models; give an address such as"
            " http://localhost:8000/v1 and a model for each, or --judge likelihood alone"
        )
    key_variable, *others = of_endpoints
    model_of = iter(models)
    with ExitStack() as held:
        judges: list[Judge] = []
        for name in names:
            if name == LIKELIHOOD:
                from trainables.models.loading import load  # here: torch
                from trainables.packed.host import Host

                host = Host(load(base))
                held.callback(host.shut)
                judges.append(LikelihoodJudge(host, margin))
            else:
                endpoint = Endpoint(name, next(model_of), folder, key_variable, *others)
                held.callback(endpoint.close)
                judges.append(LlmJudge(endpoint))
        yield judges
