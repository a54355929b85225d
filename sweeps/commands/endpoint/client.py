"""A client of OpenAI-compatible chat endpoints, for a teacher or a judge, on a machine of your own or rented.

The interface is https://platform.openai.com/docs/api-reference/chat, which vLLM, llama.cpp, Ollama and SGLang serve
too. The `openai` package sends the requests. It retries after 429, 5xx and lost connections, with exponential backoff.
Answers are cached (`answer_cache.py`), so that no question is paid for twice. The key comes from the environment and is
written nowhere but into requests.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sweeps.commands.endpoint.answer_cache import AnswerCache, Reply, hash_of
from sweeps.commands.endpoint.errors import GO_ON, EndpointError, OverBudget, explain
from sweeps.spec.addresses import in_clear, read_address

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": ...}

OPENAI, OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"
# The openai package sends these to every server, also as headers of any name and with any key.
FOR_OPENAI = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_ADMIN_KEY")
NO_KEY = "no-key-is-set"  # sent to servers that need none; the openai package requires some key
MILLION = 1_000_000
TOKENS_PER_MESSAGE = 16  # a bound on the tokens that a chat template adds to a message


_environment = threading.Lock()


@contextmanager
def _hidden(variables: Iterable[str]) -> Iterator[None]:
    """Remove variables from the environment within the block."""
    with _environment:
        removed = {name: os.environ.pop(name) for name in variables if name in os.environ}
        try:
            yield
        finally:
            os.environ.update(removed)


@dataclass(eq=False)
class Endpoint:
    """One model at `url`, the address up to and including `/v1`. Answers are cached in `folder`.

    `max_tokens` bounds an answer. `temperature` None is the server's default. Prices are dollars per million tokens.
    `key_variable` is the environment variable with the key; None is OPENAI_API_KEY for OpenAI itself, and no key for
    other servers. With both prices, `max_cost` (dollars) bounds the cost of all answers of this model in `folder`,
    including those of earlier runs. An answer that was lost on its way back is not counted.
    """

    url: str
    model: str
    folder: Path
    key_variable: str | None = None
    temperature: float | None = 0.0
    max_tokens: int = 512
    price_in: float | None = None
    price_out: float | None = None
    max_cost: float | None = None
    max_retries: int = 6  # about half a minute with the package's backoff
    timeout_s: float = 300.0  # per answer
    _reserved: list[float] = field(default_factory=list, init=False, repr=False)  # dollars, one per pending request
    _budget: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)
    _probe: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _reached: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = read_address(repr(self.url), self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
            shown = self.url.partition("?")[0].rpartition("@")[2]
            raise EndpointError(
                f"{shown!r}", "must be an address such as http://localhost:8000/v1, without a password or ?"
            )
        if self.key_variable is None and parts.scheme == "https" and parts.hostname == OPENAI:
            self.key_variable = OPENAI_KEY
        if self._key != NO_KEY and in_clear(self.url):
            raise EndpointError(
                self.url,
                f"is another machine, and plain http would show the key in {self.key_variable} to the network",
                "give an https:// address, or tunnel the server here: ssh -L 8000:localhost:8000 HOST",
            )
        for what in ("price_in", "price_out", "max_cost"):
            amount = getattr(self, what)
            if amount is not None and not 0 <= amount < math.inf:
                raise EndpointError(what, f"is {amount}", "give dollars of at least 0, or leave it out")
        if self.max_cost is not None and (self.price_in is None or self.price_out is None):
            raise EndpointError("a bound on the cost", "needs both prices, in dollars per million tokens")
        self.url = self.url.rstrip("/")
        self._cache = AnswerCache(self.folder)
        self._source = f"{self.model} at {self.url}"

    def ask(self, messages: Sequence[Message], sample: int = 0) -> Reply:
        """Return the answer to a conversation. `sample` numbers several answers to the same conversation.

        Raise EndpointError if the request fails, and OverBudget before a request that could exceed `max_cost`.
        """
        key = self._key_of(messages, sample)
        if cached := self._cache.get(key):
            return cached
        with self._within_budget(messages):
            return self._cache.put(key, self._source, self._request(messages))

    def ask_all(self, conversations: Sequence[Sequence[Message]], workers: int = 8, sample: int = 0) -> list[Reply]:
        """Return the answers in order, by `workers` concurrent requests. Equal conversations share one."""
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
        """Return the cost in dollars of all answers of this model in `folder`; None without prices."""
        if self.price_in is None or self.price_out is None:
            return None
        return self._price(*self._cache.tokens(self._source))

    def models(self) -> list[str] | None:
        """Return the names of the server's models; None if it does not list them.

        Raise EndpointError if the server cannot be reached or refuses the key.
        """
        import openai

        try:
            listed = self._client.with_options(max_retries=1, timeout=min(30.0, self.timeout_s)).models.list()
            return sorted(str(one.id) for one in listed)
        except (openai.APIConnectionError, openai.AuthenticationError) as error:
            raise self._explained(error) from None
        except (
            openai.OpenAIError,
            AttributeError,
            TypeError,
            ValueError,
        ):  # no such page, or a page that lists no models
            return None

    def close(self) -> None:
        """Close the connections and the cache."""
        if "_client" in vars(self):
            self._client.close()
        self._cache.close()

    @property
    def _key(self) -> str:
        return (os.environ.get(self.key_variable) if self.key_variable else None) or NO_KEY

    @cached_property
    def _client(self) -> Any:
        from openai import OpenAI  # takes a second to import

        own = urlsplit(self.url).hostname == OPENAI
        with contextlib.nullcontext() if own else _hidden(FOR_OPENAI):
            return OpenAI(api_key=self._key, base_url=self.url, max_retries=self.max_retries, timeout=self.timeout_s)

    def _explained(self, error: Exception) -> EndpointError:
        return explain(error, self.url, self.key_variable, self.model, self.models)

    @property
    def _parameters(self) -> dict[str, Any]:
        """OpenAI's own models no longer accept `max_tokens`; most other servers accept nothing else."""
        name = "max_completion_tokens" if urlsplit(self.url).hostname == OPENAI else "max_tokens"
        return {name: self.max_tokens} | ({} if self.temperature is None else {"temperature": self.temperature})

    def _key_of(self, messages: Sequence[Message], sample: int) -> str:
        request = {"url": self.url, "model": self.model, "messages": [dict(one) for one in messages]}
        return hash_of(request | self._parameters | {"sample": sample})

    def _price(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * (self.price_in or 0) + completion_tokens * (self.price_out or 0)) / MILLION

    @contextmanager
    def _within_budget(self, messages: Sequence[Message]) -> Iterator[None]:
        """Reserve the highest cost of a request. If it does not fit, wait for the pending requests to end."""
        most = self._price(_most_tokens(messages), self.max_tokens)
        with self._budget:
            while self.max_cost is not None and (self.spent() or 0) + sum(self._reserved) + most > self.max_cost:
                if not self._reserved:
                    raise OverBudget(
                        f"${self.spent():.4f}",
                        f"is spent on {self.model}, and one more answer could cost ${most:.4f}, which"
                        f" exceeds the bound of ${self.max_cost:.4f}",
                        f"raise it: {GO_ON}",
                    )
                self._budget.wait()
            self._reserved.append(most)
        try:
            yield
        finally:
            with self._budget:
                self._reserved.remove(most)
                self._budget.notify_all()

    def _request(self, messages: Sequence[Message]) -> Reply:
        import openai

        with self._probe:  # a wrong address or key fails at once, not after all retries of every worker
            if not self._reached:
                self.models()
                self._reached = True
        try:
            completion = self._client.chat.completions.create(
                model=self.model, messages=list(messages), **self._parameters
            )
            choice, usage = completion.choices[0], completion.usage
            prompt, answer = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
            text = (
                (choice.message.content or "").encode(errors="replace").decode()
            )  # half a character, of JSON's \ud800
            return Reply(
                text,
                _most_tokens(messages) if prompt is None else prompt,  # an upper bound if the server does not count
                self.max_tokens if answer is None else answer,
                truncated=choice.finish_reason == "length",
            )
        except openai.OpenAIError as error:
            raise self._explained(error) from None
        except (AttributeError, IndexError, TypeError):  # a web page, or an answer without choices
            raise EndpointError(
                self.url, "answers, but not as an OpenAI-compatible chat endpoint", "most addresses end in /v1"
            ) from None


def _most_tokens(messages: Sequence[Message]) -> int:
    """Return a bound on the prompt's tokens: no tokenizer in use makes more tokens than bytes."""
    return sum(len(one["content"].encode()) + TOKENS_PER_MESSAGE for one in messages)
