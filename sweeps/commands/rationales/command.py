"""`espalier rationales`: reasoning for the training questions of StrategyQA, by a teacher or by the base itself.

A file of rows {"key", "rationale", "answer", "weight", "source"}, which `StrategyQaTask.rationales` takes. The answer
never stands in a prompt: a request is made of a question alone. Which samples are kept, and what the weights are for,
is in `sieve.py`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sweeps.commands.endpoint.answer_cache import FILE, Reply
from sweeps.commands.endpoint.client import Endpoint
from sweeps.commands.rationales.filtering import Sieve
from sweeps.commands.rationales.own_answers import OwnWords
from sweeps.spec.sweep import BadInput
from trainables.atomic import replace_file
from trainables.tasks.strategyqa.task import StrategyQaTask, parse_answer

BLOCK = 64  # questions between two lines about the progress
INTERRUPTED = 130  # exit status


class Voice(Protocol):
    """Who answers."""

    def ask_all(self, questions: Sequence[str], sample: int = 0) -> list[Reply]: ...

    def close(self) -> None: ...


class Teacher:
    """An endpoint that is asked for reasoning."""

    def __init__(self, endpoint: Endpoint, sentences: int, workers: int) -> None:
        self.endpoint, self._sentences, self._workers = endpoint, sentences, workers
        self.close = endpoint.close

    def ask_all(self, questions: Sequence[str], sample: int = 0) -> list[Reply]:
        return self.endpoint.ask_all([messages(text, self._sentences) for text in questions], self._workers, sample)


def rationales(
    to: Path,
    /,
    task: StrategyQaTask = StrategyQaTask(),  # noqa: B008  # frozen
    teacher: str | None = None,
    model: str | None = None,
    key_variable: str = "OPENAI_API_KEY",
    workers: int = 8,
    price_in: float | None = None,
    price_out: float | None = None,
    max_cost: float | None = None,
    base: str | None = None,
    adapter: Path | None = None,
    instruct: bool | None = None,
    batch_size: int = 16,
    samples: int = 4,
    temperature: float = 0.7,
    max_tokens: int = 256,
    sentences: int = 4,
    seed: int = 0,
    pairs: Path | None = None,
) -> None:
    """Write a JSONL file with a rationale for each training question that could be answered right with reasoning.

    Either `--teacher URL --model NAME` writes them, an OpenAI-compatible endpoint, or `--base NAME`, the model itself.
    Answers are kept in answers.sqlite beside the file, so that the same command goes on after an interruption.

    Args:
        to: the file
        task: the data whose questions are asked
        teacher: the endpoint's address
        model: the endpoint's model
        key_variable: the environment variable with the endpoint's key
        workers: questions that the endpoint is asked at a time
        price_in: dollars per million tokens of prompts
        price_out: dollars per million tokens of answers
        max_cost: dollars that are spent at most
        base: the model whose own samples are taken
        adapter: of the base, a folder
        instruct: whether the base is told to reason; none: unless an adapter has taught it to
        batch_size: questions that the base answers side by side
        samples: of a question, at most
        temperature: of the answers
        max_tokens: of an answer
        sentences: of an answer
        seed: of the samples
        pairs: a file for right and wrong answers to the same question, as preferences
    """
    if (teacher is None) == (base is None):
        raise BadInput("give either --teacher URL and --model NAME, or --base NAME")
    if (teacher is None) != (model is None):
        raise BadInput("--teacher URL and --model NAME go together")
    if samples < 1 or (samples > 1 and temperature == 0):
        raise BadInput(
            f"--samples {samples} at --temperature {temperature}: the same answer again; raise one, or --samples 1"
        )
    source = f"teacher {model}" if teacher else f"self {base}"
    _refuse_another(to, source)
    voice: Voice
    try:
        if teacher and model:
            endpoint = Endpoint(teacher, model, to.parent, key_variable, temperature, max_tokens, price_in, price_out,
                                max_cost)  # fmt: skip
            voice = Teacher(endpoint, sentences, workers)
        else:
            told = instructions(sentences) if (adapter is None if instruct is None else instruct) else ""
            voice = OwnWords(str(base), adapter, to.parent, told, temperature, max_tokens, seed, batch_size)
    except ValueError as error:  # of the base's name
        raise BadInput(str(error)) from error
    sieve = Sieve(task.train(), parse_answer)
    try:
        cut = gather(sieve, voice, samples, pairs is not None)
        if isinstance(voice, Teacher) and (dollars := voice.endpoint.spent()) is not None:
            print(f"spent on {model}: ${dollars:.4f}")
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on, with what {to.parent / FILE} holds", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        voice.close()
    write(sieve, to, source, pairs, cut)


def instructions(sentences: int) -> str:
    return (
        f"Think step by step, in at most {sentences} short sentences. Then end with exactly one of these two sentences:"
        ' "So the answer is Yes." or "So the answer is No."'
    )


def messages(question: str, sentences: int) -> list[dict[str, str]]:
    """What a teacher is asked: of an example it sees the prompt alone."""
    return [{"role": "system", "content": instructions(sentences)}, {"role": "user", "content": question}]


def gather(sieve: Sieve, voice: Voice, samples: int, pairs: bool, tell: Callable[[str], Any] = print) -> int:
    """Ask until every question has what it can get, or `samples` samples. How many answers were cut off."""
    cut = 0
    for number in range(samples):
        left = [example for example in sieve.examples if sieve.wants(example, pairs)]
        for start in range(0, len(left), BLOCK):
            block = left[start : start + BLOCK]
            for example, reply in zip(block, voice.ask_all([e.prompt for e in block], number), strict=True):
                sieve.add(example, reply.text)
                cut += reply.truncated
            spent = voice.endpoint.spent() if isinstance(voice, Teacher) else None
            money = "" if spent is None else f", ${spent:.4f} so far"
            tell(
                f"sample {number + 1} of {samples}: {start + len(block)} of {len(left)} questions,"
                f" {len(sieve.right)} of {len(sieve.examples)} have a rationale{money}"
            )
    return cut


def write(sieve: Sieve, to: Path, source: str, pairs: Path | None, cut: int) -> None:
    """The files, each whole or not at all, and what is in them. BadInput if an answer is lost."""
    for answer, found in sieve.counts().items():
        print(f"{answer}: {', '.join(f'{found[fate]} {fate}' for fate in ('kept', 'wrong', 'unparsed'))}")
    if cut:
        print(f"{cut} answers were cut off; with a greater --max-tokens they could have ended")
    try:
        rows, weight = sieve.rows(source), sieve.weights()
    except ValueError as error:
        raise BadInput(
            f"{error}: raise --samples or --temperature, or ask another model. {to} is not written"
        ) from None
    _write(to, rows)
    shown = ", ".join(f"{answer} {value:.3g}" for answer, value in weight.items())
    print(f"{to}: {len(rows)} rationales for {len(sieve.examples)} questions; weights: {shown}")
    if pairs:
        both, gold = sieve.pairs(), {e.key: e.answer for e in sieve.examples}
        _write(pairs, both)
        chosen = Counter(gold[one["key"]] for one in both)
        print(f"{pairs}: {len(both)} pairs; chosen: {', '.join(f'{answer} {chosen[answer]}' for answer in weight)}")


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}") from error


def _refuse_another(file: Path, source: str) -> None:
    """A file with somebody else's rationales in it, or with anything else, is not overwritten."""
    if not file.exists():
        return
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        others = sorted({str(row["source"]) for row in rows} - {source})
    except (OSError, ValueError, TypeError, KeyError):
        others = ["another kind"]
    if others:
        raise BadInput(f"{file} holds rationales of {others[0]}; give a new file")
