"""Every command and flag, read from the parsers' own help, and wrong values for them."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from sweeps.cli.main import console, main
from sweeps import arc, arena, own, reasoning, strategyqa, style
from sweeps.spec.error_policy import Status
from tests.support.commands_kit import COMMANDS
from tests.support.driving import MINIATURES

SCRIPTS = {"own": own, "arc": arc, "arena": arena, "reasoning": reasoning, "strategyqa": strategyqa, "style": style}
ALLOWED = {Status.DONE, Status.BAD_INPUT}
LONGEST = 1000  # characters of an error: what it lists, such as the fields of a learner, included
FLAG = re.compile(r"^\W*(--[a-z][\w.-]*)", re.MULTILINE)

NUMBERS = ["nan", "-inf", "1e999", "-0", "-1", "0", "1.5", "1_000", "٣", "9" * 30, "9" * 5000, "0x10", "true"]
WORDS = [
    "",
    " ",
    "none",
    "null",
    "auto",
    "best",
    "=",
    "a=b",
    ",",
    "1,2",
    "-x",
    "[",
    "{",
    "%s",
    "a\nb",
    "\x1b[31m",
    "x" * 5000,
]
ADDRESSES = [
    "http://",
    "http://[",
    "http://u:p@h",
    "s3://",
    "file:///",
    "hub:",
    "hub:../..",
    "builtin:",
    "builtin:tiny:",
    ":",
]
AXES = ["learning_rate=nan", "learning_rate=", "learning_rate=1e999", "learning_rate=٣", "r=-1", "r=true", "no_such=1"]
PATHS = [
    "nowhere",
    "empty/below",
    "folder",
    "~nobody/x",
    "dangling",
    "loop",
    "new\nline",
    "/dev/null/x",
    "../..",
    "é" * 300,
]
CONTENTS = {
    "empty": b"",
    "binary": bytes(range(256)) * 4,
    "new\nline": b"x",
    "list.yaml": b"- 1\n",
    "open.yaml": b"a: [1",
    "open.json": b"{",
    "deep.json": b"[" * 100_000,
    "half.parquet": b"PAR1 no table PAR1",
    "head.csv": b"prompt,answer\n",
    "bytes.jsonl": b"\xff\xfe\x00\x01",
    "bytes.py": b"\xff\xfe\x00\x01",
    "fails.py": b"1 / 0\n",
    "half.gguf": b"GGUF\x03\x00",
    "odd.yaml": b"cluster_name: x\nprovider: {type: nothing}\n",
}

values = st.sampled_from([*NUMBERS, *WORDS, *ADDRESSES, *AXES, *PATHS, *CONTENTS]) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20
)


class Place(NamedTuple):
    """A flag or an argument, and the command line that has it."""

    program: str
    words: tuple[str, ...]  # without the flag
    flag: str  # "" for a last argument

    def line(self, value: str) -> list[str]:
        return [self.program, *self.words, f"{self.flag}={value}" if self.flag else value]

    def __str__(self) -> str:
        return " ".join(filter(None, [self.program, self.words[0] if self.program == "espalier" else "", self.flag]))


def call(line: list[str]) -> None:
    """Run a command line in this process."""
    sys.argv = line
    script = SCRIPTS.get(line[0].removesuffix(".py"))
    main(script.SWEEP) if script else console()


def help_of(line: list[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        call([*line, "--help"])
    return said.getvalue()


def places() -> Iterator[Place]:
    """Every flag of the scripts, every flag of the commands, and the last argument of each command.

    All scripts share their flags but those of the task: one of them stands for the others.
    """
    for name in SCRIPTS:
        flags = dict.fromkeys(FLAG.findall(help_of([f"{name}.py"])))
        words = [*MINIATURES[name], "--no-report"]
        for flag in flags:
            if flag != "--help" and (name == "own" or flag.startswith("--task.")):
                yield Place(f"{name}.py", tuple(without(words, flag)), flag)
    (found,) = re.findall(r"\{([\w,]+)\}", help_of(["espalier"]))[:1]
    for command in found.split(","):
        words = command_line(command)
        for flag in dict.fromkeys(FLAG.findall(help_of(["espalier", command]))):
            if flag != "--help":
                yield Place("espalier", tuple(without(words, flag)), flag)
        yield Place("espalier", (command,), "")
        yield Place("espalier", tuple(words[:2]), "")


def command_line(command: str) -> list[str]:
    own = {
        "chat": ["chat", "runs/run", "Is it?"],
        "evaluate": ["evaluate", "runs/run", "--tasks", "arc_easy"],
        "rationales": ["rationales", "r.jsonl", "--base", "builtin:tiny"],
    }
    known = (words for words in COMMANDS.values() if words[0] == command)
    return own.get(command) or next(known, [command])


def without(words: list[str], flag: str) -> list[str]:
    """Return the words without a flag and its values."""
    if flag not in words:
        return words
    start = words.index(flag)
    end = next((i for i in range(start + 1, len(words)) if words[i].startswith("--")), len(words))
    return words[:start] + words[end:]


def make_files(folder: Path) -> None:
    """Write the files and folders that the values name."""
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)


class Started(BaseException):
    """The input was taken, and work would begin."""


def stop(*_: object, **__: object) -> None:
    raise Started


# What begins the work of each script and command: it is not tested here.
STEPS = [
    "sweeps.tuning.session.connect",
    "sweeps.tuning.estimate.plan",
    "sweeps.resources.ray_job._connected",
    "sweeps.commands.reproduce.open_learner",
    "sweeps.commands.endpoint.client.Endpoint.ask_all",
    "sweeps.commands.endpoint.client.Endpoint.ask",
    "sweeps.tracking.mlflow_store.subprocess.Popen",
    "sweeps.tracking.registry.register",
    "sweeps.cli.doctor.examine",
    "trainables.models.loading.load",
]


def outcome(run: Callable[[], None]) -> tuple[int | None, str]:
    """Return the exit status, or None where work would begin, and what was printed on standard error."""
    erred, status = io.StringIO(), 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(erred):
        try:
            run()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except Started:
            return None, erred.getvalue()
    return status, erred.getvalue()
