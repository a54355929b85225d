"""`espalier rationales`: rationales for the training questions of StrategyQA, by a teacher or by the base itself.

It writes a file of rows {"key", "rationale", "answer", "weight", "source"}, which `StrategyQaTask.rationales` reads.
The answer is never in a prompt: a request is made from the question alone. `filtering.py` says which samples are kept
and what the weights are for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import tyro

from sweeps.commands.endpoint.answer_cache import FILE, Reply
from sweeps.commands.endpoint.client import Endpoint
from sweeps.commands.rationales.base_sampler import BaseSampler
from sweeps.commands.rationales.filtering import RationaleFilter
from sweeps.results.terminal import print
from sweeps.spec.validation import check_splits
from trainables.atomic import replace_file
from trainables.bad_input import BadInput, check_least
from trainables.tasks.strategyqa.task import StrategyQaTask, parse_answer

BLOCK = 64  # questions between two lines about the progress


@dataclass(frozen=True)
class RationaleOptions:
    """The flags of `espalier rationales`."""

    teacher: str | None = None  # the endpoint's address
    model: str | None = None  # the endpoint's model
    # the environment variable with the endpoint's key; none: OPENAI_API_KEY for api.openai.com, no key for others
    key_variable: str | None = None
    workers: int = 8  # concurrent requests to the endpoint
    price_in: float | None = None  # dollars per million tokens of prompts
    price_out: float | None = None  # dollars per million tokens of answers
    max_cost: float | None = None  # the most that may be spent, in dollars
    base: str | None = None  # the model that answers instead of a teacher
    adapter: Path | None = None  # the folder of an adapter; --base is the model below it
    instruct: bool | None = None  # whether prompts tell the base to reason; none: only without an adapter
    batch_size: int = 16  # questions in a batch of the base
    samples: int = 4  # answers to a question, at most
    temperature: float = 0.7  # sampling temperature
    max_tokens: int = 256  # tokens in an answer, at most
    sentences: int = 4  # sentences in an answer, at most; prompts say so
    seed: int = 0  # random seed of the samples of a base
    pairs: Path | None = None  # a file for pairs of a right and a wrong answer to one question, as preferences

    def check(self) -> None:
        """Raise BadInput for numbers below their bounds, and for flags that contradict each other."""
        check_least(
            self, {"workers": 1, "batch_size": 1, "samples": 1, "temperature": 0, "max_tokens": 1, "sentences": 1}
        )
        if (self.teacher is None) == (self.base is None):
            raise BadInput("give either --teacher URL and --model NAME, or --base NAME")
        if (self.teacher is None) != (self.model is None):
            raise BadInput("--teacher URL and --model NAME go together")
        if self.samples > 1 and self.temperature == 0:
            raise BadInput(
                f"--samples {self.samples} at --temperature {self.temperature}:",
                "every sample would be the same",
                "raise the temperature, or give --samples 1",
            )

    @property
    def source(self) -> str:
        """The author of the rationales, as the file names it."""
        return f"teacher {self.model}" if self.teacher else f"self {self.base}"


class Sampler(Protocol):
    """A model that answers questions."""

    def ask_all(self, questions: Sequence[str], sample: int = 0) -> list[Reply]: ...

    def close(self) -> None: ...


class TeacherSampler:
    """A teacher behind an endpoint, which is prompted to reason."""

    def __init__(self, endpoint: Endpoint, sentences: int, workers: int) -> None:
        self.endpoint, self._sentences, self._workers = endpoint, sentences, workers
        self.close = endpoint.close

    def ask_all(self, questions: Sequence[str], sample: int = 0) -> list[Reply]:
        return self.endpoint.ask_all([messages(text, self._sentences) for text in questions], self._workers, sample)


def rationales(
    to: Path,
    /,
    task: StrategyQaTask = StrategyQaTask(),  # noqa: B008  # frozen
    options: Annotated[RationaleOptions, tyro.conf.arg(name="")] = RationaleOptions(),
) -> None:
    """Write a JSONL file with a rationale for each training question that the model answered right by reasoning.

    The model is either a teacher behind an OpenAI-compatible endpoint (`--teacher URL --model NAME`), or a local base
    (`--base NAME`). Answers are kept in answers.sqlite beside the file, so the same command continues after an
    interruption.

    Args:
        to: the file
        task: the data whose questions are asked
    """
    options.check()
    _check_source_of_existing(to, options.source)
    check_splits(task)
    sampler = _open_sampler(options, to.parent)
    kept = RationaleFilter(task.train(), parse_answer)
    try:
        truncated = gather(kept, sampler, options.samples, options.pairs is not None)
        if (dollars := _dollars_spent(sampler)) is not None:
            print(f"spent on {options.model}: ${dollars:.4f}")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command continues from the answers in {to.parent / FILE}") from None
    finally:
        sampler.close()
    write(kept, to, options.source, options.pairs, truncated)


def _open_sampler(options: RationaleOptions, folder: Path) -> Sampler:
    """Open the endpoint or the base. Its answers are kept in `folder`. Raise BadInput for a name that is refused."""
    try:
        if options.teacher and options.model:
            endpoint = Endpoint(
                options.teacher, options.model, folder, options.key_variable, options.temperature, options.max_tokens,
                options.price_in, options.price_out, options.max_cost,
            )  # fmt: skip
            return TeacherSampler(endpoint, options.sentences, options.workers)
        instruct = options.adapter is None if options.instruct is None else options.instruct
        return BaseSampler(
            str(options.base),
            options.adapter,
            folder,
            instructions=instructions(options.sentences) if instruct else "",
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            seed=options.seed,
            batch_size=options.batch_size,
        )
    except ValueError as error:  # an unknown base
        raise BadInput(str(error)) from error


def instructions(sentences: int) -> str:
    return (
        f"Think step by step, in at most {sentences} short sentences. Then end with exactly one of these two sentences:"
        ' "So the answer is Yes." or "So the answer is No."'
    )


def messages(question: str, sentences: int) -> list[dict[str, str]]:
    """Return the conversation that a teacher sees. It holds the question alone, never the answer."""
    return [{"role": "system", "content": instructions(sentences)}, {"role": "user", "content": question}]


def gather(
    kept: RationaleFilter, sampler: Sampler, samples: int, pairs: bool, tell: Callable[[str], Any] = print
) -> int:
    """Sample at most `samples` answers to each question that needs one. Return the number of truncated answers."""
    truncated = 0
    for number in range(samples):
        left = [example for example in kept.examples if kept.wants(example, pairs)]
        for start in range(0, len(left), BLOCK):
            block = left[start : start + BLOCK]
            for example, reply in zip(block, sampler.ask_all([e.prompt for e in block], number), strict=True):
                kept.add(example, reply.text)
                truncated += reply.truncated
            spent = _dollars_spent(sampler)
            money = "" if spent is None else f", ${spent:.4f} so far"
            tell(
                f"sample {number + 1} of {samples}: {start + len(block)} of {len(left)} questions,"
                f" {len(kept.right)} of {len(kept.examples)} have a rationale{money}"
            )
    return truncated


def _dollars_spent(sampler: Sampler) -> float | None:
    """Return the dollars spent on a teacher; None without prices, and for a base."""
    return sampler.endpoint.spent() if isinstance(sampler, TeacherSampler) else None


def write(kept: RationaleFilter, to: Path, source: str, pairs: Path | None, truncated: int) -> None:
    """Write the files atomically and print what is in them. Raise BadInput if no rationale concludes some answer."""
    for answer, found in kept.counts().items():
        print(f"{answer}: {', '.join(f'{found[fate]} {fate}' for fate in ('kept', 'wrong', 'unparsed'))}")
    if truncated:
        print(f"{truncated} answers were truncated; raise --max-tokens to let them end")
    try:
        rows, weight = kept.rows(source), kept.weights()
    except ValueError as error:
        raise BadInput(
            f"{error}: raise --samples or --temperature, or use another model. {to} is not written"
        ) from None
    _write(to, rows)
    shown = ", ".join(f"{answer} {value:.3g}" for answer, value in weight.items())
    print(f"{to}: {len(rows)} rationales for {len(kept.examples)} questions; weights: {shown}")
    if pairs:
        both, gold = kept.pairs(), {e.key: e.answer for e in kept.examples}
        _write(pairs, both)
        chosen = Counter(gold[one["key"]] for one in both)
        print(f"{pairs}: {len(both)} pairs; chosen: {', '.join(f'{answer} {chosen[answer]}' for answer in weight)}")


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    except OSError as error:
        raise BadInput(file, f"cannot be written: {error.strerror}") from error


def _check_source_of_existing(file: Path, source: str) -> None:
    """Raise BadInput for a file that holds rationales from another source, or anything else."""
    if not file.exists():
        return
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        others = sorted({str(row["source"]) for row in rows} - {source})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        others = ["another kind"]
    if others:
        raise BadInput(file, f"holds rationales of {others[0]}", "give a new file")
