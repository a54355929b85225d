"""What an export needs on other machines: a base that can be found there, and the tokenizer beside the weights."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trainables.atomic import check_no_link
from trainables.models import gguf
from trainables.models.adapter_config import CONFIG_FILE, make_portable
from trainables.models.chat_template import assistant_turn
from trainables.models.loading import BaseName, UnknownBase, check_base, tokenizer

BASE_FOLDER = "base"
MODEL_FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json"),
    *("tokenizer*", "chat_template*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    "*.model",  # of sentencepiece
)
CODE_FILES = ("*.py",)  # of a base that brings its own code
SNAPSHOT = re.compile(r"/models--([^/]+)--([^/]+)/snapshots/[0-9a-f]+/?$")  # of the hub's cache


@dataclass(frozen=True)
class Origin:
    """Where others find a base. `name`: for people, never a path of this machine."""

    name: str
    hub: str = ""  # its name on the hub; empty: it is not there
    brought: int = 0  # bytes that were copied into the export; 0: none

    def reference(self, folder: str) -> str:
        """Return what an adapter in a folder of this name has as the name of its base.

        A base that is not on the hub is found from the parent folder. Without `./` it could be somebody's name on the
        hub, from where tools would then load it.
        """
        return self.hub or f"./{folder}/{BASE_FOLDER}"


def hub_name(base: str) -> str:
    """Return the hub's name of a base, of a GGUF file that of its repository; empty for one of this machine alone."""
    name = BaseName.parse(base)
    if name.source in gguf.PUBLISHED:
        return gguf.PUBLISHED[name.source]
    if not Path(name.source).is_absolute() and not Path(name.source).is_dir():
        return name.source
    return "/".join(found.groups()) if (found := SNAPSHOT.search(name.source)) else ""


def short_name(base: str) -> str:
    """Return a base's name for people, without options and without folders of this machine."""
    name, first = BaseName.parse(base), base.split(":")
    return ":".join(first[:2]) if first[0] == "builtin" else hub_name(base) or name.gguf or Path(name.source).name


def pack_adapter(base: str, folder: Path, hub: str = "") -> Origin:
    """Put what an adapter in `folder` needs beside it, and name its base in its configurations.

    `hub`: the base's name on the hub, if `base` is a copy of it. Raise UnknownBase for a base that is here and holds a
    symbolic link, which would take any of your files with it; one that is not here is left out.
    """
    hub = hub or hub_name(base)
    origin = Origin(short_name(base), hub, 0 if hub else _bring(base, folder / BASE_FOLDER))
    for path in [*folder.rglob(CONFIG_FILE)]:
        make_portable(path, origin.reference(folder.name))
    save_tokenizer(base, folder)
    return origin


def save_tokenizer(base: str, folder: Path) -> None:
    """Save a base's tokenizer beside an adapter or a model, if the base is on this machine."""
    with contextlib.suppress(UnknownBase):
        add_tokenizer(folder, tokenizer(base))


def add_tokenizer(folder: Path, reader: Any) -> None:
    """Save a tokenizer and its chat template in a folder; a model there also gets the end token of answers."""
    reader.save_pretrained(folder)
    if not (folder / "config.json").is_file():
        return
    path = folder / "generation_config.json"
    config = json.loads(path.read_text()) if path.is_file() else {}
    own = config.get("eos_token_id")
    ends = own if isinstance(own, list) else [] if own is None else [own]
    if (end := assistant_turn(reader).end) not in ends:
        path.write_text(json.dumps(config | {"eos_token_id": [*ends, end]}, indent=2))


def _bring(base: str, target: Path) -> int:
    """Copy a base of this machine to `target`; return its bytes, 0 if it is not here, or is no model."""
    try:
        check_base(base)
    except UnknownBase:
        return 0
    name = BaseName.parse(base)
    if name.gguf:
        files = [one for one in [Path(name.source) / name.gguf] if one.is_file()]  # else its model is in the cache
    else:
        kinds = MODEL_FILES + (CODE_FILES if "remote-code" in name.options else ())
        files = [one for one in sorted(Path(name.source).iterdir()) if any(fnmatch(one.name, kind) for kind in kinds)]
    try:
        check_no_link(*files)
    except ValueError as error:
        raise UnknownBase(f"base {base!r}: {error}, or name it with --base") from error
    if files:
        target.mkdir()
    for file in files:
        shutil.copyfile(file, target / file.name)
    return sum(file.stat().st_size for file in files)
