"""The protocols every part of Espalier is written against, and nothing else. Needs only the standard library.

A *task* gives examples and scores completions. A *learner* is trained on it, a round at a time. A *pair* is a learner
and a task on a base. A learner on a language model (`LanguageLearner`) never touches the model: it says what to train
on next and how log-probabilities become a loss, and a host does the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Split = Literal["train", "search", "test"]
START = "start_from"  # among a trial's parameters: a clone's state that it goes on from, a file of the sweep's folder


@dataclass(frozen=True)
class Example:
    """One question. `key` names its template and entities: splits never share a key."""

    prompt: str
    answer: str
    kind: str
    key: str
    difficulty: float = 0.0  # in [0, 1], for an easy-to-hard curriculum
    data: Any = field(default=None, compare=False, repr=False)  # what a non-text learner reads (ARC: the grids)


class Task(Protocol):
    """Examples and a scorer. Implementations are frozen dataclasses; the same fields give the same examples.

    A task of public benchmarks may have `published(example) -> str | None`: the official evaluation set that an example
    belongs to, by its content. Guards then say where such examples are trained on. One of a user's data may have
    `describe(count_tokens) -> list[str]`: what it is made of, in lines that are printed before anything starts. One
    whose learners read more of a training example than prompt and answer has `learned(example) -> str`: all the rest.
    One whose training examples have replies before the last has `taught(example) -> Sequence[str]`: the prompt of each.
    """

    name: ClassVar[str]

    @property
    def chance(self) -> float:
        """Expected score in [0, 1] of a uniform guess among the admissible answers, over the search split."""

    @property
    def max_new_tokens(self) -> int:
        """The completion budget, in tokens of a word-level tokenizer; more is counted as truncated."""

    def train(self) -> Sequence[Example]: ...

    def search(self) -> Sequence[Example]:
        """What ASHA and Optuna see."""

    def test(self) -> Sequence[Example]:
        """For finalists only."""

    def baselines(self) -> Mapping[str, float]:
        """Scores in [0, 1] of trivial strategies on the search split: `constant`, `copy` ...; `constant.<kind>` too."""

    def score(self, example: Example, completion: str) -> float:
        """Strict score in [0, 1], higher is better; the gold answer scores 1."""

    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """What is reported beside the score and never ranks: `lenient`, `unparsed`, `cell_accuracy` ..., in [0, 1]."""


@runtime_checkable
class Learner(Protocol):
    """What a trial drives. All that is needed to go on after a restart is in `state()`, as bytes."""

    def round(self) -> dict[str, float]:
        """Train a fixed amount; metrics such as `loss`."""

    def evaluate(self, split: Split = "search") -> dict[str, Any]:
        """Metrics with `score` in [0, 1]; `items` holds the per-example scores in split order, and `completions`,
        where there are any, what was said to each (both are left out of logs)."""

    def state(self) -> bytes: ...

    def load(self, state: bytes) -> None: ...

    def save(self, folder: str) -> None:
        """Write what a person takes away (a PEFT adapter, or weights) into an existing folder."""

    def close(self) -> None: ...


class LearnerConfig(Protocol):
    """A frozen dataclass, every field with a default; lives in the learner's file.

    `name` is what `--learner` takes, `needs_base` says whether `build` wants a base (else it gets None), `packs`
    whether it builds a `LanguageLearner`, which can share its base with other trials. A learner that reads more of a
    task than text says which in `only_task`, a task's name; one that does not answer with its base says so by
    `base_answers = False`; one that trains a model for every example, rather than one for all, by `per_example = True`.
    One whose score is not always the task's has `baselines(task)` of its own.
    """

    name: ClassVar[str]
    needs_base: ClassVar[bool]
    packs: ClassVar[bool]

    def build(self, base: Any, task: Task, seed: int) -> Learner | LanguageLearner: ...

    def rounds_per_pass(self, task: Task) -> int:
        """Rounds that one pass over the training data takes: the default grace period of ASHA."""


@dataclass(frozen=True)
class Pair:
    """A learner and a task on a base: `builtin:tiny`, a hub name, a local path, or `none` where no base is needed."""

    learner: LearnerConfig
    task: Task
    base: str = "none"


@dataclass(frozen=True)
class Row:
    """One training sequence: `labels[i]` says whether token i is to be predicted (never token 0).

    `starts` are the places, beyond 0 and rising, where a further document begins: it sees nothing of those before it,
    its positions count from 0 again, and its first token is never a label. See `packs.py` and `documents.py`.
    """

    tokens: tuple[int, ...]
    labels: tuple[bool, ...]
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class Adapter:
    """What is trained on the frozen base: LoRA (`r` > 0), a soft prompt (`num_virtual_tokens` > 0), or both.

    LoRA: Hu et al. 2021; names as in `peft.LoraConfig`. Soft prompt: Lester et al. 2021; names as in
    `peft.PromptTuningConfig`. `target_modules` empty means the architecture's default attention projections.
    """

    r: int = 0
    lora_alpha: float = 0.0
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    num_virtual_tokens: int = 0
    prompt_init: Literal["random", "vocab"] = "vocab"


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with clipping by global norm and an optional schedule, in optimizer steps."""

    learning_rate: float
    prompt_learning_rate: float | None = None  # for the soft prompt; None: learning_rate
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_grad_norm: float = 1.0
    gradient_accumulation_steps: int = 1
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    total_steps: int = 0  # where linear and cosine reach zero
    neftune_noise_alpha: float = 0.0  # noise on the embeddings of training rows, see `neftune.py`; 0: none


@dataclass(frozen=True)
class Complete:
    """Asks for greedy completions of prompts (token ids). Answer: a `Completion` each, in order.

    `untouched`: by the base alone. A host answers such questions once for all of its trials.
    """

    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    untouched: bool = False


@dataclass(frozen=True)
class Read:
    """Asks how likely rows are. Answer: per row the log-probability (nats) of each label, as floats.

    `untouched`: as for `Complete`.
    """

    rows: Sequence[Row]
    untouched: bool = False


@dataclass
class Completion:
    """What was said: tokens without the end token, whether that came, and each one's log-probability (nats), the end
    token's last."""

    tokens: list[int]
    ended: bool = False
    logprobs: list[float] = field(default_factory=list)


Asking = Generator[Complete | Read, Any, Any]  # asks for one thing after another, and returns what it makes of it


class LanguageLearner(Protocol):
    """A learner on a frozen language model. It touches neither model nor optimizer: a host does (see `host.py`)."""

    adapter: Adapter
    rows_per_batch: int  # at most so many rows come from one `next_rows()`
    steps_per_round: int  # optimizer steps in the round that was prepared last
    watch_updates: bool  # report the prediction before and after each update

    @property
    def optimizer(self) -> Optimizer:
        """Asked for before every step."""

    def prepare(self) -> Asking:
        """What must be known before a round; returns nothing."""

    def next_rows(self) -> list[Row]:
        """The rows of one micro-batch; `gradient_accumulation_steps` of them make one optimizer step."""

    def weight(self, rows: Sequence[Row]) -> float:
        """What a micro-batch counts beside the others of its step: its labels, where `loss` is a mean over labels."""

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Per row, the log-probabilities (a 1-D tensor, one entry per label, in order) -> one scalar tensor."""

    def evaluate(self, split: Split) -> Asking:
        """Asks for completions and likelihoods of a split, and returns metrics with `score`, as `Learner.evaluate`."""

    def state(self) -> dict[str, Any]:
        """The place in the data: enough to give the same rows after a restart."""

    def load(self, state: dict[str, Any]) -> None: ...
