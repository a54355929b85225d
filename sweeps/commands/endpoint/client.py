"""A model behind an OpenAI-compatible chat endpoint: a teacher or a judge, on a machine of your own or rented.

The interface: https://platform.openai.com/docs/api-reference/chat, as vLLM, llama.cpp, Ollama and SGLang serve it too.

Requests and their repetitions are the `openai` package's: 429, 5xx and lost connections are repeated with growing
pauses. Answers are kept (`answers.py`), so that the same question is never paid for twice. The key comes from the
environment and goes nowhere but into the request.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweeps.commands.endpoint.answer_cache import Answers, Reply, hash_of
from sweeps.commands.endpoint.errors import GO_ON, EndpointError, OverBudget, explain

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}

NO_KEY = "no-key-is-set"  # what a server that needs none is sent
MILLION = 1_000_000
TOKENS_PER_MESSAGE = 16  # at most, of the chat template around its text


@dataclass(eq=False)
class Endpoint:
    """`url` is the address up to and with `/v1`; answers are kept in `folder`.

    `max_tokens` bounds an answer; `temperature` None leaves it to the server. Prices are dollars per million tokens;
    with both of them, `max_cost` (dollars) bounds what all answers of this model in `folder` may cost together, those
    of earlier runs included. A request that was answered but whose answer was lost on the way is not counted.
    """

    url: str
    model: str
    folder: Path
    key_variable: str = "OPENAI_API_KEY"
    temperature: float | None = 0.0
    max_tokens: int = 512
    price_in: float | None = None
    price_out: float | None = None
    max_cost: float | None = None
    max_retries: int = 6  # with the package's pauses: about half a minute
    timeout_s: float = 300.0  # for one answer
    _held: list[float] = field(default_factory=list, init=False, repr=False)  # dollars that requests under way may cost
    _free: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _first: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _reached: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
            shown = self.url.partition("?")[0].rpartition("@")[2]
            raise EndpointError(
                f"{shown!r} must be an address such as http://localhost:8000/v1, without a password or ?"
            )
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise EndpointError("a bound on the cost needs both prices, in dollars per million tokens")
        self.url = self.url.rstrip("/")
        self._answers = Answers(self.folder)
        self._source = f"{self.model} at {self.url}"

    def ask(self, messages: Sequence[Message], sample: int = 0) -> Reply:
        """The answer to a conversation; `sample` tells several answers to the same one apart.

        Raises EndpointError, and OverBudget before a request that could pass `max_cost`.
        """
        key = self._key_of(messages, sample)
        if kept := self._answers.get(key):
            return kept
        with self._within_budget(messages):
            return self._answers.put(key, self._source, self._request(messages))

    def ask_all(self, conversations: Sequence[Sequence[Message]], workers: int = 8, sample: int = 0) -> list[Reply]:
        """The answers in order, `workers` requests at a time, equal conversations once. The first error ends it."""
        keys = [self._key_of(messages, sample) for messages in conversations]
        with ThreadPoolExecutor(workers) as pool:
            asked = {
                key: pool.submit(self.ask, messages, sample)
                for key, messages in dict(zip(keys, conversations, strict=True)).items()
            }
            try:
                for done in as_completed(asked.values()):
                    done.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [asked[key].result() for key in keys]

    def spent(self) -> float | None:
        """Dollars for all answers of this model that `folder` holds; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return self._price(*self._answers.tokens(self._source))

    def models(self) -> list[str] | None:
        """What the server says it has; None if it does not say. Raises EndpointError if it is not there, or for a key
        that it refuses."""
        import openai

        try:
            listed = self._client.with_options(max_retries=1, timeout=min(30.0, self.timeout_s)).models.list()
            return sorted(str(one.id) for one in listed)
        except (openai.APIConnectionError, openai.AuthenticationError) as error:
            raise self._told(error) from None
        except (openai.OpenAIError, AttributeError, TypeError, ValueError):  # no such page, or one of another kind
            return None

    def close(self) -> None:
        """Give connections and the file of answers back."""
        if "_client" in vars(self):
            self._client.close()
        self._answers.close()

    @property
    def _key(self) -> str:
        return os.environ.get(self.key_variable) or NO_KEY

    @cached_property
    def _client(self) -> Any:
        from openai import OpenAI  # here: it takes a second

        return OpenAI(api_key=self._key, base_url=self.url, max_retries=self.max_retries, timeout=self.timeout_s)

    def _told(self, error: Exception) -> EndpointError:
        return explain(error, self.url, self.key_variable, self.model, self.models)

    @property
    def _parameters(self) -> dict[str, Any]:
        """OpenAI's own models take no `max_tokens` any more, and most other servers nothing else."""
        name = "max_completion_tokens" if urlsplit(self.url).hostname == "api.openai.com" else "max_tokens"
        return {name: self.max_tokens} | ({} if self.temperature is None else {"temperature": self.temperature})

    def _key_of(self, messages: Sequence[Message], sample: int) -> str:
        asked = {"url": self.url, "model": self.model, "messages": [dict(one) for one in messages]}
        return hash_of(asked | self._parameters | {"sample": sample})

    def _price(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * (self.price_in or 0) + completion_tokens * (self.price_out or 0)) / MILLION

    @contextmanager
    def _within_budget(self, messages: Sequence[Message]) -> Iterator[None]:
        """Hold back the most that a request can cost; where that does not fit, wait for those under way."""
        most = self._price(_most_tokens(messages), self.max_tokens)
        with self._free:
            while self.max_cost is not None and (self.spent() or 0) + sum(self._held) + most > self.max_cost:
                if not self._held:
                    raise OverBudget(
                        f"${self.spent():.4f} is spent on {self.model}, and one answer more could cost ${most:.4f},"
                        f" which passes the bound of ${self.max_cost:.4f}; raise it: {GO_ON}"
                    )
                self._free.wait()
            self._held.append(most)
        try:
            yield
        finally:
            with self._free:
                self._held.remove(most)
                self._free.notify_all()

    def _request(self, messages: Sequence[Message]) -> Reply:
        import openai

        with self._first:  # a wrong address or key is told at once, not after every repetition of every worker
            if not self._reached:
                self.models()
                self._reached = True
        try:
            said = self._client.chat.completions.create(model=self.model, messages=list(messages), **self._parameters)
            choice, usage = said.choices[0], said.usage
            read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
            return Reply(
                choice.message.content or "",
                _most_tokens(messages) if read is None else read,  # a server that does not count: the most it can be
                self.max_tokens if written is None else written,
                truncated=choice.finish_reason == "length",
            )
        except openai.OpenAIError as error:
            raise self._told(error) from None
        except (AttributeError, IndexError, TypeError):  # a page of another kind, or an answer without choices
            raise EndpointError(
                f"{self.url} answers, but not as an OpenAI-compatible chat endpoint; most addresses end in /v1"
            ) from None


def _most_tokens(messages: Sequence[Message]) -> int:
    """A bound on the prompt's tokens: no tokenizer in use makes more of them than there are bytes."""
    return sum(len(one["content"].encode()) + TOKENS_PER_MESSAGE for one in messages)
