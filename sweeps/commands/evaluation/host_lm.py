"""A model in a host, as lm-evaluation-harness asks one (`lm_eval.api.model.LM`).

Texts are tokenized and cut as its own Hugging Face model does (`lm_eval.models.huggingface.HFLM`), so that both give
equal results: the two differ in how a batch is computed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
    resolve_max_length,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from trainables.core import Row
from trainables.models.architecture import keeps_keys_and_values
from trainables.packed.saved_model import HostedModel

MAX_NEW_TOKENS = 256  # where a task names no limit, as in HFLM
FIRST_PART = 32  # tokens that are generated before an answer is searched for its end
LOGITS = 2**28  # at most so many are computed at a time: 1 GiB in float32
LIMITS = {"max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"}  # names of one thing
GREEDY = {"until", "do_sample", "temperature", "top_k", "top_p", *LIMITS}  # top_k, top_p: for sampling alone

Encoded = tuple[Any, list[int], list[int]]  # what was asked, the context's tokens, the continuation's


class CannotAsk(ValueError):
    """A task asks for what a base or greedy decoding cannot do; the message says it in one line."""


class HostLM(TemplateLM):
    """Answers by the model of a host. `name` is shown beside the progress; `virtual`: virtual tokens to leave room for.

    A row is at most as long as the base's context, minus `virtual`. Learned positions hold one token less than HFLM
    reads, as the host runs a row's last token, too.
    """

    def __init__(self, model: HostedModel, name: str, virtual: int = 0) -> None:
        super().__init__()
        self._model, self._name = model, name
        self._base = model.host.base
        self.tokenizer = self._base.tokenizer
        stated = resolve_max_length(self._base.model.config, self.tokenizer)
        self.max_length = int(min(stated, self._base.positions - 1)) - virtual

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without a context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **others: Any) -> list[int]:
        """Encode a text with the tokenizer's own special tokens, unless it begins with the first of them already."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return self.tokenizer.encode(string, **special)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render messages; without the system turn if the template refuses it."""

        def rendered(messages: list[dict[str, str]]) -> str:
            return self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )

        try:
            return rendered(chat_history)
        except jinja2.TemplateError:
            return rendered([message for message in chat_history if message["role"] != "system"])

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood (nats) of whole texts, in windows of the longest context."""
        windows = [self._windows(request.args[0]) for request in requests]
        found = iter(self._loglikelihood_tokens([window for own in windows for window in own]))
        return [sum(next(found)[0] for _ in own) for own in windows]

    def _windows(self, text: str) -> list[Encoded]:
        pairs = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, 1)
        return [(None, *make_disjoint_window(pair)) for pair in pairs]

    def _loglikelihood_tokens(self, requests: Sequence[Encoded], **others: Any) -> list[tuple[float, bool]]:
        """Return, per request, the log-probability (nats) of the continuation, and whether greedy decoding says it.

        Raise CannotAsk for a continuation that is longer than the base's context.
        """
        rows = [self._row(context, continuation) for _, context, continuation in requests]
        found: dict[int, tuple[float, bool]] = {}
        for places in self._progress(self._parts(rows), len(rows), "log-likelihoods"):
            measured = self._model.host.likelihoods([rows[i] for i in places], self._model.trial_id)
            for i, (logprobs, likeliest) in zip(places, (one.double().unbind(1) for one in measured), strict=True):
                found[i] = float(logprobs.sum()), bool(likeliest.all())
        return [found[i] for i in range(len(rows))]

    def _row(self, context: list[int], continuation: list[int]) -> Row:
        """Join both, and cut the context's beginning off where they are longer than the base's context."""
        count = len(continuation)
        if not 0 < count <= self.max_length:
            raise CannotAsk(f"an answer of a task has {count} tokens; {self._base.name!r} reads 1 to {self.max_length}")
        context = context or [self.prefix_token_id]  # of a context of blanks, which goes to the continuation
        tokens = (context + continuation)[-(self.max_length + 1) :]
        return Row(tuple(tokens), (False,) * (len(tokens) - count) + (True,) * count)

    def _parts(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Yield the places of rows of about equal length, the longest first, as many as fit `LOGITS`."""
        order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].tokens), rows[i].tokens))
        while order:
            longest = max(sum(rows[i].labels) for i in order[: self._model.host.shape.lanes])
            count = max(1, min(self._model.host.shape.lanes, LOGITS // (longest * self._base.vocabulary)))
            yield order[:count]
            del order[:count]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return greedy answers, up to the first of a request's `until` texts. Raise CannotAsk."""
        if not keeps_keys_and_values(self._base.model):
            raise CannotAsk(
                f"{self._base.name!r} keeps no keys and values, with which a host generates; leave such out"
            )
        asked = [self._ask(*request.args) for request in requests]
        order = sorted(range(len(asked)), key=lambda i: len(asked[i].prompt))
        at_once = self._model.host.executor.decode_lanes
        parts = (order[first : first + at_once] for first in range(0, len(order), at_once))
        for places in self._progress(parts, len(asked), "answers"):
            self._generate([asked[i] for i in places])
        return [postprocess_generated_text(self._text(one), one.until, None) for one in asked]

    def _ask(self, context: str, settings: dict[str, Any]) -> _Answer:
        check_greedy(settings)
        given = normalize_gen_kwargs(settings, MAX_NEW_TOKENS)
        until = handle_stop_sequences(given["until"], self.tokenizer.decode(self.eot_token_id))
        limit, room = given["max_gen_toks"], self.max_length - given["max_gen_toks"]
        if limit < 1 or room < 1:
            raise CannotAsk(f"max_gen_toks {limit} of a task: give 1 to {self.max_length - 1} on {self._base.name!r}")
        special = False if has_bos_prefix(context, self.tokenizer.bos_token) else None
        return _Answer(self.tok_encode(context, special)[-room:], until, limit)

    def _generate(self, asked: Sequence[_Answer]) -> None:
        """Generate in parts that double in length, so that answers which reach their end early are not continued."""
        part = FIRST_PART
        while asked:
            by_length: dict[int, list[_Answer]] = {}
            for one in asked:
                by_length.setdefault(min(part, one.limit - len(one.tokens)), []).append(one)
            for count, own in by_length.items():
                prompts = [one.prompt + one.tokens for one in own]
                for one, more in zip(own, self._model.host.complete(prompts, count, self._model.trial_id), strict=True):
                    one.tokens += more.tokens
                    one.ended = more.ended or len(one.tokens) >= one.limit
            asked = [one for one in asked if not self._has_ended(one)]
            part *= 2

    def _has_ended(self, one: _Answer) -> bool:
        if self.eot_token_id in one.tokens:  # an answer ends with another token where a chat template says so
            one.tokens = one.tokens[: one.tokens.index(self.eot_token_id)]
            one.ended = True
        return one.ended or any(end and end in self._text(one) for end in one.until)

    def _text(self, one: _Answer) -> str:
        return self.tokenizer.decode(one.tokens, skip_special_tokens=True)

    def _progress(self, parts: Iterable[list[int]], total: int, what: str) -> Iterator[list[int]]:
        """Yield the parts, and show on a terminal how much is done."""
        with tqdm(total=total, desc=f"{self._name}: {what}", disable=None) as bar:
            for places in parts:
                yield places
                bar.update(len(places))


@dataclass
class _Answer:
    """An answer in the making. `until`: texts before which it ends; `limit`: the most tokens."""

    prompt: list[int]
    until: list[str]
    limit: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False


def check_greedy(settings: Mapping[str, Any]) -> None:
    """Raise CannotAsk if a task's `generation_kwargs` ask for more than greedy decoding."""
    if normalize_gen_kwargs(dict(settings))["do_sample"]:
        raise CannotAsk("a task samples its answers (do_sample, temperature), and this command decodes greedily")
    if unknown := sorted(set(settings) - GREEDY):
        raise CannotAsk(f"a task's generation_kwargs hold {', '.join(unknown)}, which greedy decoding does not know")
