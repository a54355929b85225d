"""Load a base's tokenizer, choose its chat template, and look at both before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trainables.models.base_fault import BaseFault, check_content, first_line, read_object, silence
from trainables.models.chat_template import assistant_turn, check_template, choose_template

FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.*",
    "*.tiktoken",
    "tekken.json",
    "tokenization_*.py",
)
READ = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
COPY = "copy the tokenizer's files from the model that it was made from"


def load_tokenizer(source: str, remote_code: bool) -> Any:
    """Load the tokenizer of a folder, or of a repository on the hub, with one chat template at most.

    Raise BaseFault if it is missing or damaged.
    """
    from transformers import AutoTokenizer

    if Path(source).is_dir():
        _check_files(Path(source), [one.name for one in Path(source).iterdir()])
    try:
        with silence():
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=remote_code)
    except Exception as error:  # the tokenizers' own errors are bare exceptions
        told = f"{type(error).__name__}: {first_line(error)}".rstrip(".")
        if "trust_remote_code" in str(error):
            raise BaseFault("its tokenizer is code in the model's own folder; read it, and add :remote-code") from error
        lacking = [name for name in ("sentencepiece", "tiktoken", "protobuf") if f"install {name}" in str(error)]
        remedy = f"`pip install {lacking[0]}` if its files are whole, else {COPY}" if lacking else COPY
        raise BaseFault(f"its tokenizer cannot be read ({told}); {remedy}") from error
    choose_template(tokenizer)
    return tokenizer


def _check_files(folder: Path, names: Sequence[str]) -> None:
    if not any(fnmatch(name, pattern) for name in names for pattern in FILES):
        raise BaseFault(f"it has no tokenizer (tokenizer.json); {COPY}")
    for name in names:
        if name in READ:
            read_object(folder / name)
        elif any(fnmatch(name, pattern) for pattern in (*FILES, "merges.txt", "*.jinja")):
            check_content(folder / name)


def check_tokenizer(tokenizer: Any, vocabulary: int) -> None:
    """Raise BaseFault for a tokenizer without an end token, one that is not the base's, or a template that fails.

    `vocabulary`: the rows of the base's embedding.
    """
    check_template(tokenizer)
    end = assistant_turn(tokenizer).end
    if end is None:
        raise BaseFault(
            "its tokenizer has no end token (eos), so no completion could ever end; set eos_token in"
            " tokenizer_config.json"
        )
    added = set(tokenizer.added_tokens_decoder)  # some have more of these than the base: Gemma 3's, for pictures
    last = max((place for place in tokenizer.get_vocab().values() if place not in added), default=-1)
    for place in (last, end):
        if place >= vocabulary:
            raise BaseFault(
                f"its tokenizer has token {place} ({tokenizer.convert_ids_to_tokens(place)!r}), and its vocabulary has"
                f" {vocabulary}; use the tokenizer that came with the weights"
            )
    said = tokenizer("Yes", add_special_tokens=False).input_ids
    if not said:
        raise BaseFault(f"its tokenizer makes no tokens of a text; {COPY}")
