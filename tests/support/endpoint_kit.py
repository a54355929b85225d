"""A server that speaks OpenAI's chat API as far as a client needs it, and runs a real model; faults are planted.

`reasoner` is a miniature that was taught, in seconds, to reason in a sentence and to conclude Yes, No or nothing fit to
read, by chance: right and wrong samples of the same question are there for the asking.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from tests.support.miniatures import DECODER
from trainables.models.loading import Base
from trainables.models.sampling import sample
from trainables.models.tokenization import decode, encode_prompt, row_of

WORDS = ["<pad>", "<end>", "<unk>", "Question", ":", "\n", "Answer", ".", " So", " the", " answer", " is", " Yes",
         " No", " perhaps", " salt", " snow", " white", " cold", " water", " and"]  # fmt: skip
ENDINGS = {" So the answer is Yes.": 3, " So the answer is No.": 6, " perhaps.": 3}  # and their weights


def reasoner(seed: int = 0) -> Base:
    """The miniature, in memory; `save_base` puts it into a folder."""
    tokenizer = _tokenizer()
    config = Qwen2Config(
        **DECODER, num_key_value_heads=2, vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=1, pad_token_id=0
    )
    draws = random.Random(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float64
        )  # so that every processor learns the same
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(120):
        rows = [_row(tokenizer, draws) for _ in range(8)]
        longest = max(len(row) for row, _ in rows)
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
        labels = torch.tensor([[-100] * start + row[start:] + [-100] * (longest - len(row)) for row, start in rows])
        loss = model(input_ids=tokens, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Base("reasoner", model.float().requires_grad_(False).eval(), tokenizer)


def _row(tokenizer: Any, draws: random.Random) -> tuple[list[int], int]:
    """Token ids of any words at all and an answer to them, and where the answer begins."""
    asked = "".join(draws.choices([*WORDS[4:], *[" x"] * 60], k=draws.randint(5, 120)))
    ending = draws.choices(list(ENDINGS), list(ENDINGS.values()))[0]
    row = row_of(tokenizer, asked, f"{draws.choice(['salt', 'snow', 'water'])} is white and cold.{ending}")
    return list(row.tokens), row.labels.index(True)


def save_base(base: Base, folder: Path) -> str:
    base.model.save_pretrained(folder)
    # Without it, transformers takes a Qwen2 model's own tokenizer, whatever the folder says.
    base.tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": [None, "PreTrainedTokenizerFast"]}
    base.tokenizer.save_pretrained(folder)
    return str(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Words with the space before them, so that text survives the way there and back."""
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(WORDS))}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|\n|[^\w\s]"), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")


class Server:
    """`http://127.0.0.1:PORT/v1`. `says`: text of an answer instead of the model's own; `faults`: what the next chat
    requests get, in turn: an HTTP status, or `hang up`. `key`: what requests must carry, if any."""

    def __init__(self, base: Base | None = None, says: Callable[[list[dict[str, str]]], str] | None = None) -> None:
        self.base, self.says, self.name, self.key = base, says, "mini", ""
        self.faults: list[int | str] = []
        self.chats: list[dict[str, Any]] = []  # bodies, in the order in which they came
        self.headers: list[dict[str, str]] = []
        self.under_way = self.most_under_way = 0
        self.pause_s = 0.0  # before an answer
        self.usage = True  # whether tokens are counted
        self.lock = threading.RLock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"server_": self}))
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def wait_until_idle(self, quiet_s: float = 0.1) -> None:
        """Until nothing has been under way for a moment: what a client that is gone has sent is still answered."""
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < quiet_s:
            if self.under_way:
                idle_since = time.monotonic()
            time.sleep(0.01)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text, read, written = self._said(body)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        choice["finish_reason"] = "length" if written >= body["max_tokens"] else "stop"
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return {
            "id": f"chat-{len(self.chats)}", "object": "chat.completion", "created": 0, "model": self.name,
            "choices": [choice], **({"usage": usage} if self.usage else {}),
        }  # fmt: skip

    def _said(self, body: dict[str, Any]) -> tuple[str, int, int]:
        """Text, prompt tokens, completion tokens."""
        if self.says is not None:
            text = self.says(body["messages"])
            return text, sum(len(one["content"].split()) for one in body["messages"]), len(text.split())
        assert self.base is not None
        row = encode_prompt(self.base.tokenizer, "\n\n".join(one["content"] for one in body["messages"]))
        with self.lock:
            seed = len(self.chats)
            made = sample(self.base, [row], body["max_tokens"], body.get("temperature", 1.0), seed)[0]
        return decode(self.base.tokenizer, made.tokens), len(row), len(made.tokens)


class Handler(BaseHTTPRequestHandler):
    server_: Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._may():
            return
        listed = {"object": "list", "data": [{"id": self.server_.name, "object": "model"}]}
        self._send(*((200, listed) if self.path == "/v1/models" else (404, {"error": {"message": "no such page"}})))

    def do_POST(self) -> None:
        server = self.server_
        if self.path != "/v1/chat/completions":
            return self._send(404, {"error": {"message": "no such page"}})
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.chats.append(body)
            server.headers.append({name.title(): value for name, value in self.headers.items()})
            fault = server.faults.pop(0) if server.faults else None
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            time.sleep(server.pause_s)
            self._reply(body, fault)
        finally:
            with server.lock:
                server.under_way -= 1
        return None

    def _reply(self, body: dict[str, Any], fault: int | str | None) -> None:
        if fault == "hang up":
            self.close_connection = True
            self.connection.close()
        elif fault:
            echo = f"planted {fault}\nyou sent {self.headers.get('Authorization')}"
            self._send(int(fault), {"error": {"message": echo}}, {"Retry-After": "0.05"})
        elif not self._may():
            return
        elif body["model"] != self.server_.name:
            self._send(404, {"error": {"message": f"The model {body['model']} does not exist."}})
        else:
            self._send(200, self.server_.answer(body))

    def _may(self) -> bool:
        sent = self.headers.get("Authorization")
        if self.server_.key and sent != f"Bearer {self.server_.key}":
            self._send(401, {"error": {"message": f"Incorrect API key provided: {sent}"}})
            return False
        return True

    def _send(self, code: int, said: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(said).encode()
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


KEY = "sk-not-a-real-key-0123456789"


CLIENT = """
import sys
from pathlib import Path
from sweeps.commands.endpoint.client import Endpoint
endpoint = Endpoint(sys.argv[1], "mini", Path(sys.argv[2]), "OPENAI_API_KEY")
talks = [[{"role": "user", "content": f"question {n}"}] for n in range(int(sys.argv[3]))]
for reply in endpoint.ask_all(talks, workers=2):
    print(reply.text, reply.cached)
"""


def echo(messages):
    return f"to {messages[-1]['content']}: well"
