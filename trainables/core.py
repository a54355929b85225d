"""The base classes and protocols that every part of Espalier is written against. Needs only the standard library.

A *task* gives examples and scores completions. A *learner* is trained on it, a round at a time. A *pair* is a learner
and a task on a base. A learner on a language model (`LanguageLearner`) never touches the model: it says what to train
on next and how log-probabilities become a loss, and a host does the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self, runtime_checkable

from trainables.optimizer import Optimizer

Split = Literal["train", "search", "test"]
ON_BASE = "@"  # between a learner and the label of its base, in the name of a pair


@dataclass(frozen=True)
class Example:
    """One question. `key` names its template and entities: splits never share a key."""

    prompt: str
    answer: str
    kind: str
    key: str
    difficulty: float = 0.0  # in [0, 1], for an easy-to-hard curriculum
    data: Any = field(default=None, compare=False, repr=False)  # what a non-text learner reads (ARC: the grids)


class Message(NamedTuple):
    """One turn of a conversation. `more`: as JSON, the other keys that a chat template reads, such as `tool_calls`."""

    role: str  # system, user, assistant or tool
    content: str
    learned: bool = True  # of an assistant turn: whether the loss is on it
    more: str = ""

    @property
    def text(self) -> str:
        """The content, and below it the calls of tools."""
        return "\n".join(part for part in (self.content, self.more) if part)


class ParsedAnswer(NamedTuple):
    """The answer in a completion, and its place `completion[start:end]` in characters."""

    answer: str
    start: int
    end: int


class BaseLengths(Protocol):
    """What a base can read, in its own tokens."""

    @property
    def limit(self) -> float:
        """The most tokens of a prompt and its answer; infinite if the base states none."""

    @property
    def writes_tools(self) -> bool:
        """Whether its chat template writes tools, their calls and their results."""

    def is_too_long(self, example: Example, more: int) -> bool:
        """Whether a prompt, its answer and `more` tokens exceed the limit."""

    def answer(self, example: Example) -> int:
        """Return the tokens of the answer and its end."""


class Task(ABC):
    """Examples and a scorer. Subclasses are frozen dataclasses; the same fields give the same examples.

    The methods from `published` on are optional.
    """

    name: ClassVar[str]
    flag_names: ClassVar[Mapping[str, str]] = {}  # of fields whose flags are called as a method is: field -> flag
    search_limit: ClassVar[str] = ""  # the field that sets how many questions the search split has, if there is one
    test_limit: ClassVar[str] = ""  # and the test split

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
        """The examples that ASHA and Optuna score on."""

    @abstractmethod
    def test(self) -> Sequence[Example]:
        """The examples that finalists are scored on; the search never sees them."""

    def test_up_to(self, count: int) -> Sequence[Example]:
        """The first `count` questions of the test split, of a task that can make as many; else the test split.

        However large `count` is, it begins with the questions of `test`.
        """
        return self.test()

    def with_test_after(self, first: int) -> Self:
        """Return a copy whose test split has other questions, as many: those after the first `first`, of a task that
        can make them. `first` counts from the task's own test split."""
        whole = copy(self)
        for name in ("test", "test_up_to"):
            vars(whole).pop(name, None)
        changed = copy(whole)
        if first:
            vars(changed)["test"] = partial(_questions_after, whole, first, None)
            vars(changed)["test_up_to"] = partial(_questions_after, whole, first)
        return changed

    @abstractmethod
    def baselines(self) -> Mapping[str, float]:
        """Scores in [0, 1] of trivial strategies on the search split: `constant`, `copy` ...; `constant.<kind>` too."""

    @abstractmethod
    def score(self, example: Example, completion: str) -> float:
        """Strict score in [0, 1], higher is better; the gold answer scores 1."""

    @abstractmethod
    def details(self, example: Example, completion: str) -> Mapping[str, float]:
        """Further metrics in [0, 1], which never rank: `lenient`, `unparsed`, `cell_accuracy` ..."""

    def split(self, name: Split) -> Sequence[Example]:
        """The examples of a split, by its name."""
        return {"train": self.train, "search": self.search, "test": self.test}[name]()

    def with_search(self, examples: Sequence[Example]) -> Self:
        """Return a copy with these examples as its search split; `baselines` and learners of one model per example read
        them."""
        changed = copy(self)
        # Hide the method by an attribute of the instance, as a frozen dataclass takes no assignment. Unlike a lambda, a
        # partial can be pickled.
        vars(changed)["search"] = partial(tuple, examples)
        return changed

    def with_search_size(self, count: int) -> Self:
        """Return a copy with `count` questions in its search split; itself if it has no field for that."""
        return replace(self, **{self.search_limit: count}) if self.search_limit else self  # type: ignore[type-var]

    def published(self, example: Example) -> str | None:
        """The official evaluation set to which an example belongs, by its content. Guards refuse to train on it."""
        return None

    def describe(self, count_tokens: Callable[[str], int]) -> list[str]:
        """Lines about the data that are printed before anything starts."""
        return []

    def extra_training_text(self, example: Example) -> str:
        """Further text of a training example that learners read; it enters the data's fingerprint."""
        return ""

    def training_prompts(self, example: Example) -> Sequence[str]:
        """The prompts of all replies that a training example teaches; a conversation has one for each reply."""
        return [example.prompt]

    @property
    def ranks_by_likelihood(self) -> bool:
        """Whether learners rank by the likelihood of the right answers, because `score` underrates other wordings."""
        return False

    def fitted(self, bases: Sequence[BaseLengths]) -> Self:
        """Return the task for these bases, such as without what they cannot read. Sweeps call it before they start."""
        return self

    def user_code(self) -> str:
        """The source of a user's own code that scores; it enters the data's fingerprint. Empty: there is none."""
        return ""

    def user_code_files(self) -> Sequence[str]:
        """The files of that code, which `--trust` names where a folder alone would make it run."""
        return []

    def parse_answer(self, completion: str) -> ParsedAnswer | None:
        """Parse the answer in a completion; None if there is none."""
        return None

    def draft(self, completion: str) -> str:
        """The reasoning before the answer in a completion; empty if there is none."""
        return ""


def _questions_after(task: Task, first: int, count: int | None) -> Sequence[Example]:
    """Return `count` questions after the first `first`, or as many as the test split has."""
    return task.test_up_to(first + (len(task.test()) if count is None else count))[first:]


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
        """Write the trained PEFT adapter, or the weights, into an existing folder."""

    def close(self) -> None: ...


class LearnerConfig(ABC):
    """The settings of a learner. Subclasses are frozen dataclasses, every field with a default.

    The class variables with a value and the methods that are not abstract are optional: their defaults fit most.
    """

    name: ClassVar[str]  # what `--learner` takes
    needs_base: ClassVar[bool]  # whether `build` wants a base; else it gets None
    trains_base: ClassVar[bool] = False  # whether it trains a float32 copy of its base, which stays as it is
    packs: ClassVar[bool] = False  # whether it builds a `LanguageLearner`, which can share its base with other trials
    only_task: ClassVar[str | None] = None  # the one task that it can learn, if it reads more of a task than text
    base_answers: ClassVar[bool] = True  # False: its answers are not its base's, so the untouched base is no reference
    per_example: ClassVar[bool] = False  # True: it trains a model for every example, rather than one for all
    together: ClassVar[tuple[str, ...]] = ()  # fields of which a space may give no values that are refused together
    independent: ClassVar[bool] = False  # True: these models have nothing in common, so each example has its own luck

    @abstractmethod
    def build(self, base: Any, task: Task, seed: int) -> Learner | LanguageLearner: ...

    def adapter(self) -> Adapter | None:
        """The LoRA or soft prompt that is trained on the frozen base; None for other learners."""
        return None

    def check_base(self, base: Any) -> None:
        """Raise ValueError if the learner cannot be trained on a base, of which there are only sizes yet."""
        return

    def check_task(self, task: Task, base: BaseLengths) -> None:
        """Raise ValueError if the learner cannot learn a task on a base of these lengths."""
        return

    def rows_per_batch(self) -> int:
        """The most rows of a micro-batch, for which a host reserves lanes if the learner shares its base."""
        return 1

    def for_rounds(self, rounds: int) -> Self:
        """Return the configuration for trials of so many rounds: a learning rate schedule ends with the last."""
        return self

    def baselines(self, task: Task) -> Mapping[str, float]:
        """Return `Task.baselines`, of the task's score; none for a likelihood, which fixed texts do not have."""
        return {} if task.ranks_by_likelihood else task.baselines()

    def untrained(self) -> str:
        """What answers before training, if the learner has no base and finalists are to be compared with that."""
        return ""

    def max_completion(self, task: Task) -> int:
        """The longest completion in tokens, see `Task.max_new_tokens`."""
        return task.max_new_tokens

    @property
    def reports_forgetting(self) -> bool:
        """Whether its rounds report `out_of_domain`: the score on questions of another kind than it trains on."""
        return False


@dataclass(frozen=True)
class Pair:
    """A learner and a task on a base: `builtin:tiny`, a hub name, a local path, or `none` where no base is needed.

    `label` is a short name of the base, in a sweep of several bases only.
    """

    learner: LearnerConfig
    task: Task
    base: str = "none"
    label: str = ""

    @property
    def name(self) -> str:
        """Its name in the sweep: `lora`, and `lora@tiny` where the sweep has several bases."""
        return f"{self.learner.name}{ON_BASE}{self.label}" if self.label else self.learner.name

    def baselines(self) -> Mapping[str, float]:
        """The scores of trivial strategies, in [0, 1]: see `Task.baselines`."""
        return self.learner.baselines(self.task)


@dataclass(frozen=True)
class Row:
    """One training sequence: `labels[i]` says whether token i is to be predicted (never token 0).

    `starts`: the rising places (above 0) where further documents begin. A document does not attend to those before it,
    its positions count from 0 again, and its first token is never a label. See `training/sequence_packing.py`.

    `branches`: the rising places where branches begin, behind a trunk. A branch attends to the trunk and to itself, its
    positions go on where the trunk ends, and neither the trunk nor a branch's first token is a label. With one branch
    the row is as any other, but a host may join rows with equal trunks (`training/groups.py`). A row has no `starts`
    then.

    `left_out`: the loss does not depend on the row's log-probabilities, so a host need not read the row, and may give
    zeros in their place.
    """

    tokens: tuple[int, ...]
    labels: tuple[bool, ...]
    starts: tuple[int, ...] = ()
    branches: tuple[int, ...] = ()
    left_out: bool = False


@dataclass(frozen=True)
class Adapter:
    """The parameters trained on a frozen base: LoRA (`r` > 0), a soft prompt (`num_virtual_tokens` > 0), or both.

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
class Draw:
    """How a completion is drawn at random. Its tokens depend on `key` (64 bits) and on the probabilities alone."""

    key: int
    temperature: float = 1.0  # logits are divided by it
    top_p: float = 1.0  # only the likeliest tokens that together have this probability are drawn


@dataclass(frozen=True)
class Complete:
    """A query for completions of prompts (token ids). The answer is a `Completion` for each, in order.

    `untouched`: by the base without an adapter. A host answers such queries once for all of its trials.
    `draws`: one for each prompt; none for greedy completions.
    """

    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    untouched: bool = False
    draws: Sequence[Draw] = ()


@dataclass(frozen=True)
class Read:
    """A query for the log-probability (nats) of each label of each row. The answer is a list of floats per row.

    `untouched`: as for `Complete`. `temperature`: logits are divided by it. `once`: no other trial asks for these rows,
    so a host does not keep what the untouched base answers (it keeps answers at temperature 1 alone).
    """

    rows: Sequence[Row]
    untouched: bool = False
    temperature: float = 1.0
    once: bool = False


@dataclass
class Completion:
    """A generated completion."""

    tokens: list[int]  # without the end token
    ended: bool = False  # with the end token
    logprobs: list[float] = field(default_factory=list)  # of each token, and of the end token last; nats
    entropies: list[float] = field(default_factory=list)  # of what each of these was drawn from; nats; none if greedy


Queries = Generator[Complete | Read, Any, Any]  # yields queries, gets their answers, and returns a result


class LanguageLearner(Protocol):
    """A learner on a frozen language model. The model and the optimizer belong to its host (`packed/host.py`)."""

    adapter: Adapter
    rows_per_batch: int  # at most so many rows come from one `next_rows()`
    steps_per_round: int  # optimizer steps in the round that was prepared last
    watch_updates: bool  # report the prediction before and after each update
    temperature: float  # logits are divided by it before `loss` gets log-probabilities; 1 for most

    @property
    def optimizer(self) -> Optimizer:
        """The settings of the next step; read before every step."""

    def prepare(self) -> Queries:
        """Make the queries that are needed before a round; the generator returns nothing."""

    def prepare_step(self) -> Queries:
        """Make the queries that are needed before an optimizer step; the generator returns nothing."""

    def next_rows(self) -> list[Row]:
        """The rows of one micro-batch; `gradient_accumulation_steps` of them make one optimizer step."""

    def weight(self, rows: Sequence[Row]) -> float:
        """The weight of a micro-batch in its step: the number of its labels, if `loss` is a mean over labels."""

    def loss(self, logprobs: list[Any], rows: Sequence[Row]) -> Any:
        """Per row, the log-probabilities (a 1-D tensor, one entry per label, in order) -> one scalar tensor."""

    def evaluate(self, split: Split) -> Queries:
        """Request completions and likelihoods on a split; the generator returns an `Evaluation`."""

    def state(self) -> dict[str, Any]:
        """The position in the data, from which a restarted learner gives the rows that would have come.

        It may hold tensors, plain values, bytes, lists, tuples and dictionaries (`trainables/states.py`).
        """

    def load(self, state: dict[str, Any]) -> None: ...
