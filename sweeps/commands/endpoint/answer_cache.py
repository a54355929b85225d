"""What language models have answered, in one SQLite file: nothing is asked, paid for or sampled twice.

An answer is on the disk before anybody reads it (SQLite's rollback journal with `synchronous=FULL`,
https://www.sqlite.org/atomiccommit.html), so that a run that is killed at any moment goes on where it was.
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
PATIENCE_S = 60.0  # for another process that is writing


@dataclass(frozen=True)
class Reply:
    """One answer. `truncated`: it was cut off at the most tokens that it could have."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached: bool = False
    truncated: bool = False


def hash_of(asked: dict[str, Any]) -> str:
    """The name of an answer: a SHA-256 of all that decides it."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Answers:
    """The file `answers.sqlite` of a folder, which is made. Safe in threads, and between processes of one machine."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._file = sqlite3.connect(folder / FILE, timeout=PATIENCE_S, check_same_thread=False)
        with self._lock, self._file:
            self._file.execute("pragma synchronous = full")
            self._file.execute(TABLE)

    def get(self, key: str) -> Reply | None:
        wanted = "select text, prompt_tokens, completion_tokens, truncated from answers where hash = ?"
        with self._lock:
            row = self._file.execute(wanted, (key,)).fetchone()
        return Reply(row[0], row[1], row[2], cached=True, truncated=bool(row[3])) if row else None

    def put(self, key: str, source: str, reply: Reply) -> Reply:
        """Keep an answer of `source`. If another process was faster, its answer is the one that counts."""
        row = (key, source, reply.text, reply.prompt_tokens, reply.completion_tokens, reply.truncated)
        with self._lock, self._file:
            self._file.execute("insert or ignore into answers values (?, ?, ?, ?, ?, ?)", row)
        kept = self.get(key)
        return replace(kept, cached=False) if kept else reply

    def tokens(self, source: str) -> tuple[int, int]:
        """Prompt and completion tokens of all answers that `source` has given, in this run and earlier ones."""
        wanted = "select total(prompt_tokens), total(completion_tokens) from answers where source = ?"
        with self._lock:
            read, written = self._file.execute(wanted, (source,)).fetchone()
        return int(read), int(written)

    def close(self) -> None:
        self._file.close()
