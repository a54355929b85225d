"""A cache of language models' answers in one SQLite file, so that no answer is requested, paid for or sampled twice.

An answer is on the disk before it is used (SQLite's rollback journal with `synchronous=FULL`,
https://www.sqlite.org/atomiccommit.html). So a run that is killed at any moment continues where it was.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FILE = "answers.sqlite"
TABLE = """create table if not exists answers (hash text primary key, source text not null, text text not null,
           prompt_tokens integer not null, completion_tokens integer not null, truncated integer not null)"""
LOCK_TIMEOUT_S = 60.0  # while another process writes


@dataclass(frozen=True)
class Reply:
    """One answer. `truncated`: it reached the bound on its tokens before its end."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached: bool = False
    truncated: bool = False


def hash_of(request: dict[str, Any]) -> str:
    """Return the key of an answer: a SHA-256 of everything that it depends on."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class AnswerCache:
    """The file `answers.sqlite` in a folder, which is created. Safe for threads and processes of one machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = sqlite3.connect(folder / FILE, timeout=LOCK_TIMEOUT_S, check_same_thread=False)
        with self._lock, self._file:
            self._file.execute("pragma synchronous = full")
            self._file.execute(TABLE)

    def get(self, key: str) -> Reply | None:
        wanted = "select text, prompt_tokens, completion_tokens, truncated from answers where hash = ?"
        with self._lock:
            row = self._file.execute(wanted, (key,)).fetchone()
        return Reply(row[0], row[1], row[2], cached=True, truncated=bool(row[3])) if row else None

    def put(self, key: str, source: str, reply: Reply) -> Reply:
        """Store an answer of `source`, and return the stored one: of another process, if that was faster."""
        row = (key, source, reply.text, reply.prompt_tokens, reply.completion_tokens, reply.truncated)
        with self._lock, self._file:
            self._file.execute("insert or ignore into answers values (?, ?, ?, ?, ?, ?)", row)
        stored = self.get(key)
        return replace(stored, cached=False) if stored else reply

    def tokens(self, source: str) -> tuple[int, int]:
        """Return the prompt and completion tokens of all answers of `source`, in this run and earlier ones."""
        wanted = "select total(prompt_tokens), total(completion_tokens) from answers where source = ?"
        with self._lock:
            prompt, completion = self._file.execute(wanted, (source,)).fetchone()
        return int(prompt), int(completion)

    def close(self) -> None:
        self._file.close()
