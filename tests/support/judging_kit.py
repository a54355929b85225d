"""Verdicts in one line, judges with planted faults, and a server that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from sweeps.commands.judging.comparisons import BlindPair
from sweeps.commands.judging.verdicts import Ruling, Verdict

ORDERS = {"first": "AB", "second": "BA", "tie": "AA", "unparsed": "A?"}
WINNERS = {"A": "A", "B": "B", "=": "tie", "?": "unparsed"}


def verdict(winner: str, item: object = 0, first: str = "x", second: str = "y", judge: str = "j") -> Verdict:
    """`winner` as in a verdict, or what was said of both orders: `AB`, `B=` ..."""
    orders = ORDERS.get(winner, winner)
    return Verdict(judge, str(item), first, second, "0", tuple(Ruling(WINNERS[one]) for one in orders))  # type: ignore[arg-type]


def verdicts(wins: int, ties: int, losses: int, **fixed: str) -> list[Verdict]:
    """So many of each, an item each."""
    said = ["first"] * wins + ["tie"] * ties + ["second"] * losses
    return [verdict(winner, item, **fixed) for item, winner in enumerate(said)]


@dataclass
class Planted:
    """A judge that rules by a function of what it is shown, and counts how often it was asked."""

    rule: Callable[[BlindPair], str]
    name: str = "planted"
    asked: list[BlindPair] = field(default_factory=list)

    def __call__(self, shown: Sequence[BlindPair]) -> list[Ruling]:
        self.asked += shown
        return [Ruling(self.rule(one)) for one in shown]  # type: ignore[arg-type]


def longer(shown: BlindPair) -> str:
    return "tie" if len(shown.a) == len(shown.b) else "A" if len(shown.a) > len(shown.b) else "B"


def at_random(seed: int) -> Callable[[BlindPair], str]:
    rng = np.random.default_rng(seed)
    return lambda shown: str(rng.choice(["A", "B", "tie"]))


@contextmanager
def chat_server(answer: Callable[[str], str]) -> Iterator[tuple[str, list[str]]]:
    """A real server whose model says `answer(last message)`; its address, and what it was asked so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["messages"][-1]["content"])
            message = {"role": "assistant", "content": answer(asked[-1])}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ITEMS = {f"item {i}": f"prompt {i}" for i in range(20)}


REPLIES = {
    "long": ["word " * 9] * 20,
    "short": ["word"] * 20,
    "mixed": ["word " * 20 if i % 2 else "" for i in range(20)],
}
