"""The base classes and protocols that every part of Espalier is written against. Needs only the standard library.

A *task* gives examples and scores completions. A *learner* is trained on it, a round at a time. A *pair* is a learner
and a task on a base. A learner on a language model (`LanguageLearner`) never touches the model: it says what to train
on next and how log-probabilities become a loss, and a host does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

from trainables.optimizer import Optimizer

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


class ParsedAnswer(NamedTuple):
    """The answer that a completion gives, and the characters `completion[start:end]` where it stands."""

    answer: str
    start: int
    end: int


class Task(ABC):
    """Examples and a scorer. Subclasses are frozen dataclasses; the same fields give the same examples.

    The methods from `published` on are optional: their defaults say "no such thing".
    """

    name: ClassVar[str]

    @property
    @abstractmethod
    def chance(self) -> float:
        """Expected score in [0, 1] of a uniform guess among the admissible answers, over the search split."""

    @property
    @abstractmethod
    def max_new_tokens(self) -> int:
        """The longest completion, in tokens of a word-level tokenizer; a longer one is cut off and scores 0."""

    @abstractmethod
    def train(self) -> Sequence[Example]: ...

    @abstractmethod
    def search(self) -> Sequence[Example]:
        """What ASHA and Optuna see."""

    @abstractmethod
    def test(self) -> Sequence[Example]:
        """For finalists only."""

    @abstractmethod
    def baselines(self) -> Mapping[str, float]:
        """Scores in [0, 1] of trivial strategies on the search split: `constant`, `copy` ...; `constant.<kind>` too."""

    @abstractmethod
    def score(self, example: Example, completion: str) -> float:
        """Strict score in [0, 1], higher is better; the gold answer scores 1."""

    @abstractmethod
    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """What is reported beside the score and never ranks: `lenient`, `unparsed`, `cell_accuracy` ..., in [0, 1]."""

    def split(self, name: Split) -> Sequence[Example]:
        """The examples of a split, by its name."""
        return {"train": self.train, "search": self.search, "test": self.test}[name]()

    def published(self, example: Example) -> str | None:
        """The official evaluation set that an example belongs to, by its content. Guards refuse to train on those."""
        return None

    def describe(self, count_tokens: Callable[[str], int]) -> list[str]:
        """Lines about the data that are printed before anything starts."""
        return []

    def learned(self, example: Example) -> str:
        """What learners read of a training example beside prompt and answer; it enters the data's fingerprint."""
        return ""

    def taught(self, example: Example) -> Sequence[str]:
        """The prompts of all replies that a training example teaches: of a conversation, one for each reply."""
        return [example.prompt]

    def said(self, completion: str) -> ParsedAnswer | None:
        """The answer that a completion gives, and where it stands; None where none can be read."""
        return None

    def draft(self, completion: str) -> str:
        """The reasoning that a completion writes before its answer; empty where it writes none."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The fields that a round and an evaluation have in common. `metrics`: further values by name, for logs."""

    metrics: Mapping[str, Any] = field(default_factory=dict)

    def with_metrics(self, more: Mapping[str, Any]) -> Self:
        """Return a copy with further metrics."""
        return replace(self, metrics={**self.metrics, **more})

    def flat(self) -> dict[str, Any]:
        """Return the metrics and all other fields in one dictionary, as Ray Tune takes results."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "metrics"}
        return {**self.metrics, **own}


@dataclass(frozen=True)
class RoundResult(Result):
    """The result of a round of training."""

    loss: float  # mean over the round, in nats on a language model; NaN or infinite: the training has diverged
    trainable_parameters: int


@dataclass(frozen=True)
class Evaluation(Result):
    """The result of an evaluation on a split."""

    score: float  # mean of `items`, in [0, 1]
    items: Sequence[float]  # the score of each example, in split order
    completions: Sequence[str] = ()  # the completion of each example, for learners that write any


@runtime_checkable
class Learner(Protocol):
    """A trial's training run. `state()` holds all that it needs to continue after a restart."""

    def round(self) -> RoundResult:
        """Train a fixed amount."""

    def evaluate(self, split: Split = "search") -> Evaluation: ...

    def state(self) -> bytes: ...

    def load(self, state: bytes) -> None: ...

    def save(self, folder: str) -> None:
        """Write what a person takes away (a PEFT adapter, or weights) into an existing folder."""

    def close(self) -> None: ...


class LearnerConfig(ABC):
    """What can be set of a learner: subclasses are frozen dataclasses, every field with a default.

    The class variables with a value and the methods that are not abstract are optional: their defaults fit most.
    """

    name: ClassVar[str]  # what `--learner` takes
    needs_base: ClassVar[bool]  # whether `build` wants a base; else it gets None
    packs: ClassVar[bool] = False  # whether it builds a `LanguageLearner`, which can share its base with other trials
    only_task: ClassVar[str | None] = None  # the one task that it can learn, if it reads more of a task than text
    base_answers: ClassVar[bool] = True  # False: its answers are not its base's, so the untouched base is no reference
    per_example: ClassVar[bool] = False  # True: it trains a model for every example, rather than one for all

    @abstractmethod
    def build(self, base: Any, task: Task, seed: int) -> Learner | LanguageLearner: ...

    @abstractmethod
    def rounds_per_pass(self, task: Task) -> int:
        """Rounds that one pass over the training data takes: the default grace period of ASHA."""

    def adapter(self) -> Adapter | None:
        """What is trained on the frozen base, as far as it is LoRA or a soft prompt."""
        return None

    def for_rounds(self, rounds: int) -> Self:
        """The same configuration, told how many rounds a trial has: a learning rate schedule ends with the last."""
        return self

    def baselines(self, task: Task) -> Mapping[str, float]:
        """As `Task.baselines`, for a learner whose score is not always the task's."""
        return task.baselines()

    def max_completion(self, task: Task) -> int:
        """The longest completion in tokens, see `Task.max_new_tokens`."""
        return task.max_new_tokens

    @property
    def reports_forgetting(self) -> bool:
        """Whether its rounds report `out_of_domain`: the score on questions that nobody trained on."""
        return False


@dataclass(frozen=True)
class Pair:
    """A learner and a task on a base: `builtin:tiny`, a hub name, a local path, or `none` where no base is needed."""

    learner: LearnerConfig
    task: Task
    base: str = "none"

    def baselines(self) -> Mapping[str, float]:
        """What trivial strategies score, in [0, 1]: see `Task.baselines`."""
        return self.learner.baselines(self.task)


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


Queries = Generator[Complete | Read, Any, Any]  # asks for one thing after another, and returns what it makes of it


class LanguageLearner(Protocol):
    """A learner on a frozen language model. It touches neither model nor optimizer: a host does (see `host.py`)."""

    adapter: Adapter
    rows_per_batch: int  # at most so many rows come from one `next_rows()`
    steps_per_round: int  # optimizer steps in the round that was prepared last
    watch_updates: bool  # report the prediction before and after each update

    @property
    def optimizer(self) -> Optimizer:
        """Asked for before every step."""

    def prepare(self) -> Queries:
        """What must be known before a round; returns nothing."""

    def next_rows(self) -> list[Row]:
        """The rows of one micro-batch; `gradient_accumulation_steps` of them make one optimizer step."""

    def weight(self, rows: Sequence[Row]) -> float:
        """What a micro-batch counts beside the others of its step: its labels, where `loss` is a mean over labels."""

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Per row, the log-probabilities (a 1-D tensor, one entry per label, in order) -> one scalar tensor."""

    def evaluate(self, split: Split) -> Queries:
        """Request completions and likelihoods on a split; the generator returns an `Evaluation`."""

    def state(self) -> dict[str, Any]:
        """The place in the data: enough to give the same rows after a restart."""

    def load(self, state: dict[str, Any]) -> None: ...
